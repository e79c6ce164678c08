"""One measured number, and tables of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

TABLE_METRICS = {
    "sample_auroc": "model",
    "sample_auroc:cevae": "ceVAE",
    "sample_auroc:denoiser": "denoiser",
    "sample_auroc:intensity": "intensity",
    "sample_auroc:pca": "PCA",
    "sample_auroc:trivial": "trivial",
    "pixel_ap": "pixel AP",
    "pixel_ap:intensity": "pixel AP, intensity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number with its interval.

    Attributes
    ----------
    artefact : str
        Name, version and seed of the model.
    split : str
        Part of the data.
    finding : str
        What was looked for; empty for all.
    metric : str
        ``<metric>`` of the model, or ``<metric>:<scorer>`` of a member or baseline.
    value, low, high : float or None
        95 % interval; None where it cannot be given.
    n : int
        Cases behind it.
    """

    artefact: str
    split: str
    finding: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def markdown_table(rows: Sequence[Row]) -> str:
    """Findings down, scorers across; numbers with their interval for the model alone."""
    columns = [m for m in TABLE_METRICS if any(row.metric == m for row in rows)]
    findings = list(dict.fromkeys(row.finding for row in rows if row.metric in TABLE_METRICS))
    by_place = {(row.finding, row.metric): row for row in rows}
    lines = [
        "| finding | n | " + " | ".join(TABLE_METRICS[m] for m in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for finding in findings:
        cells = []
        count = 0
        for metric in columns:
            row = by_place.get((finding, metric))
            if row is None:
                cells.append("")
                continue
            count = row.n
            has_interval = metric == "sample_auroc" and row.low is not None and row.high is not None
            cells.append(f"{row.value:.2f}" + (f" ({row.low:.2f} to {row.high:.2f})" if has_interval else ""))
        lines.append(f"| {finding} | {count} | " + " | ".join(cells) + " |")
    others = [row for row in rows if ":" not in row.metric and row.metric not in TABLE_METRICS]
    lines.append("")
    for row in others:
        what = f"{row.split}, {row.finding}" if row.finding else row.split
        lines.append(f"- {what}: {row.metric.replace('_', ' ')} {row.value:.2f} (n = {row.n})")
    return "\n".join(lines)

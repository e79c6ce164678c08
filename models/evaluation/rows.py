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
    "mean_percentile": "mean percentile",
}

SHARES = {
    "refused": "refused",
    "at_lowest": "at the lowest percentile",
    "highlighted": "with a highlighted voxel",
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
    shown = [row for row in rows if row.metric in columns]
    places = {(_label(row), row.metric): row for row in shown}
    lines = [
        "| finding | n | " + " | ".join(TABLE_METRICS[m] for m in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for label in dict.fromkeys(_label(row) for row in shown):
        found = [places.get((label, metric)) for metric in columns]
        count = next(row.n for row in found if row is not None)
        lines.append(f"| {label} | {count} | " + " | ".join(_cell(row) for row in found) + " |")
    lines += ["", *[_share_line(row) for row in rows if row.metric in SHARES]]
    return "\n".join(lines)


def _share_line(row: Row) -> str:
    line = f"- {_label(row)}: {round(row.value * row.n)} of {row.n} {SHARES[row.metric]}"
    if row.low is None or row.high is None:
        return line
    return f"{line} (Wilson 95 % interval {100 * row.low:.0f} to {100 * row.high:.0f} %)"


def _label(row: Row) -> str:
    parts = [row.finding, row.split if row.split != "test" else ""]
    return ", ".join(part for part in parts if part)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.metric == "sample_auroc" and row.low is not None and row.high is not None:
        return f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})"
    return f"{row.value:.1f}" if row.metric == "mean_percentile" else f"{row.value:.2f}"

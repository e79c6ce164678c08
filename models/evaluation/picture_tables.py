"""Tables of evaluations of pictures: who was measured down, figures across."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.evaluation.rows import Row

NO_MODEL = "no model"  # Artefact of the rows of baselines.
MEAN, SPREAD = "mean", "spread"  # Artefacts of the rows over seeds; spread is the standard deviation.
SYNTHETIC = ("local: ", "global: ")
SWEPT = ("intensity=", "radius=")

COLUMNS = {
    "image_auroc": "AUROC",
    "image_auroc_regressed": "AUROC without sharpness and contrast",
    "image_ap": "AP",
    "image_fpr_at_95_tpr": "FPR at 95 % TPR",
    "slice_auroc": "slice AUROC",
    "slice_auroc_central": "central slices AUROC",
    "slice_auroc_regressed": "slice AUROC without sharpness and contrast",
    "slice_ap": "slice AP",
    "study_auroc": "study AUROC",
    "pixel_ap": "pixel AP",
    "pixel_dice": "Dice",
    "pixel_dice_best": "best Dice (optimistic)",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1_at_normals_95": "F1, threshold of normals",
    "f1_at_equal_error_optimistic": "F1 at equal errors (optimistic)",
    "seconds_per_study": "s per study",
}
SHORT_COLUMNS = tuple(
    metric
    for metric in COLUMNS
    if metric
    not in {"image_fpr_at_95_tpr", "slice_ap", "sensitivity", "specificity", "slice_auroc_regressed"}
)
BASELINE_TITLES = {
    "constant": "constant",
    "mean_intensity": "mean intensity",
    "intensity": "intensity, highest 5 %",
    "equalised": "equalised intensity",
    "pca": "PCA residual",
    "slice_position": "slice position alone",
    "aspect_ratio": "aspect ratio alone (either way)",
    "sharpness": "sharpness alone (either way)",
    "contrast": "contrast alone (either way)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table.

    Attributes
    ----------
    title : str
    values : dict of str to str
        Cell by metric.
    """

    title: str
    values: dict[str, str]


def baseline_lines(rows: Sequence[Row]) -> list[Line]:
    """Lines of the rows that need no model, of one part and one finding."""
    lines = []
    for name, title in BASELINE_TITLES.items():
        own = {
            row.metric.rpartition(":")[0]: row
            for row in rows
            if row.artefact == NO_MODEL and row.metric.endswith(f":{name}")
        }
        if own:
            lines.append(Line(title=title, values={metric: _cell(row) for metric, row in own.items()}))
    return lines


def model_lines(rows: Sequence[Row], *, title: str = "") -> list[Line]:
    """Lines of models of one part and one finding: each artefact, and their mean where there are several.

    Parameters
    ----------
    rows : sequence of Row
    title : str
        Given, there is one line: the mean and spread of the artefacts, or the only one.
    """
    own = [row for row in rows if row.artefact != NO_MODEL and ":" not in row.metric]
    names = list(dict.fromkeys(row.artefact for row in own if row.artefact not in {MEAN, SPREAD}))
    lines = [
        Line(title=name, values={row.metric: _cell(row) for row in own if row.artefact == name})
        for name in names
    ]
    means = {row.metric: row for row in own if row.artefact == MEAN}
    spreads = {row.metric: row for row in own if row.artefact == SPREAD}
    if means:
        values = {metric: f"{_number(row)} ({_number(spreads[metric])})" for metric, row in means.items()}
        lines.append(Line(title=f"mean of {len(names)} (spread)", values=values))
    if not title:
        return lines
    suffix = f", mean of {len(names)} (spread)" if means else ", one seed"
    return [Line(title=title + suffix, values=lines[-1].values)] if lines else []


def table(lines: Sequence[Line], columns: Sequence[str] = tuple(COLUMNS)) -> str:
    """A Markdown table of the columns that any line fills."""
    used = [metric for metric in columns if any(metric in line.values for line in lines)]
    text = [
        "| | " + " | ".join(COLUMNS[metric] for metric in used) + " |",
        "|---|" + "---|" * len(used),
    ]
    text += [f"| {line.title} | " + " | ".join(line.values.get(m, "") for m in used) + " |" for line in lines]
    return "\n".join(text)


def places_of(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by part and finding, without those of synthetic anomalies.

    Rows without a finding (pixels, seconds) stand with the only finding of their part, or on their own.
    """
    findings: dict[str, set[str]] = {}
    real = [row for row in rows if not row.finding.startswith((*SYNTHETIC, *SWEPT))]
    for row in real:
        findings.setdefault(row.split, set()).add(row.finding)
    places: dict[tuple[str, str], list[Row]] = {}
    for row in real:
        named = findings[row.split] - {""}
        finding = next(iter(named)) if row.finding == "" and len(named) == 1 else row.finding
        places.setdefault((row.split, finding), []).append(row)
    return places


def synthetic_table(rows: Sequence[Row]) -> str:
    """AP of each category beside brightness and chance; the mean over artefacts where there are several."""
    shown = {
        "synthetic_ap": "AP",
        "synthetic_ap:intensity": "AP, intensity",
        "synthetic_prevalence": "AP of chance",
        "synthetic_pixel_ap": "pixel AP",
        "synthetic_pixel_ap:intensity": "pixel AP, intensity",
    }
    own = [row for row in rows if row.finding.startswith(SYNTHETIC) and row.metric in shown]
    if any(row.artefact == MEAN for row in own):
        own = [row for row in own if row.artefact == MEAN]
    else:
        own = [row for row in own if row.artefact != SPREAD]
    cells: Mapping[tuple[str, str], Row] = {(row.finding, row.metric): row for row in own}
    lines = ["| | " + " | ".join(shown.values()) + " |", "|---|" + "---|" * len(shown)]
    for finding in dict.fromkeys(row.finding for row in own):
        found = [cells.get((finding, metric)) for metric in shown]
        lines.append(f"| {finding} | " + " | ".join(_number(row) if row else "" for row in found) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    if row.low is None or row.high is None:
        return _number(row)
    return f"{_number(row)} ({row.low:.3f} to {row.high:.3f})"


def _number(row: Row) -> str:
    return f"{row.value:.2g}" if row.metric.startswith("seconds") else f"{row.value:.3f}"

"""Tables of evaluations of pictures: who was measured down, figures across."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.evaluation.rows import Row

NO_MODEL = "no model"  # Artefact of the rows of baselines.
MEAN, SPREAD = "mean", "spread"  # Artefacts of the rows over seeds; spread is the standard deviation.
SYNTHETIC = ("local: ", "global: ")
SWEPT = ("intensity=", "radius=")
POOLED = ("pixel_", "objects_", "image_", "slice_")  # Metrics that are of all findings where they name none.

CASE_COLUMNS = {
    "image_auroc": "AUROC",
    "image_auroc_regressed": "AUROC without sharpness and contrast",
    "image_ap": "AP",
    "image_fpr_at_95_tpr": "FPR at 95 % TPR",
    "slice_auroc": "slice AUROC",
    "slice_auroc_central": "central slices AUROC",
    "slice_auroc_regressed": "slice AUROC without sharpness and contrast",
    "slice_ap": "slice AP",
    "slice_fpr_at_95_tpr": "FPR at 95 % TPR",
    "study_auroc": "study AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1_at_normals_95": "F1, threshold of normals",
    "f1_at_equal_error_optimistic": "F1 at equal errors (optimistic)",
    "seconds_per_study": "s per study",
}
PIXEL_COLUMNS = {
    "pixel_ap": "pixel AP",
    "pixel_ap_scan_mean": "AP, mean of scans",
    "pixel_auroc": "pixel AUROC",
    "pixel_dice": "Dice, threshold of normals",
    "pixel_dice_scan_mean": "Dice, mean of scans",
    "pixel_dice_best": "best Dice (optimistic)",
    "pixel_fpr": "share of normal pixels flagged",
    "objects_found_per_scan": "objects found per scan",
    "objects_missed_per_scan": "missed",
    "objects_false_per_scan": "false",
    "l1_normal_pixels": "l1 error, normal",
    "l1_abnormal_pixels": "l1 error, abnormal",
    "chi_squared_residual_distance": "chi-squared distance of residuals",
    "ssim_normal": "SSIM on normals",
}
COLUMNS = CASE_COLUMNS | PIXEL_COLUMNS
SHORT_COLUMNS = (
    "image_auroc",
    "image_auroc_regressed",
    "image_ap",
    "slice_auroc",
    "slice_auroc_central",
    "study_auroc",
    "pixel_ap",
    "pixel_dice",
    "pixel_dice_best",
    "f1_at_normals_95",
    "f1_at_equal_error_optimistic",
    "seconds_per_study",
)
BASELINE_TITLES = {
    "constant": "constant",
    "mean_intensity": "mean intensity",
    "intensity": "intensity, highest 5 %",
    "equalised": "equalised intensity",
    "pca": "PCA residual",
    "slice_position": "slice position alone",
    "aspect_ratio": "aspect ratio alone (optimistic)",
    "sharpness": "sharpness alone (optimistic)",
    "contrast": "contrast alone (optimistic)",
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


def table(lines: Sequence[Line], columns: Iterable[str]) -> str:
    """A Markdown table of the columns that any line fills and the lines that fill any; empty without one."""
    used = [metric for metric in columns if any(metric in line.values for line in lines)]
    lines = [line for line in lines if any(metric in line.values for metric in used)]
    if not lines:
        return ""
    text = [
        "| | " + " | ".join(COLUMNS[metric] for metric in used) + " |",
        "|---|" + "---|" * len(used),
    ]
    text += [f"| {line.title} | " + " | ".join(line.values.get(m, "") for m in used) + " |" for line in lines]
    return "\n".join(text)


def places_of(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by part and finding, without those of synthetic anomalies.

    What has no finding (seconds, reconstructions) stands with every finding of its part. Pixels of several
    findings together are a place of their own, with an empty finding.
    """
    real = [row for row in rows if not row.finding.startswith((*SYNTHETIC, *SWEPT))]
    places: dict[tuple[str, str], list[Row]] = {}
    for split in dict.fromkeys(row.split for row in real):
        own = [row for row in real if row.split == split]
        named = list(dict.fromkeys(row.finding for row in own if row.finding))
        for finding in named:
            shared = [row for row in own if not row.finding and not row.metric.startswith(POOLED)]
            places[split, finding] = [row for row in own if row.finding == finding] + shared
        pooled = [row for row in own if not row.finding]
        if not named or any(row.metric.startswith(POOLED) for row in pooled):
            places[split, ""] = pooled
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

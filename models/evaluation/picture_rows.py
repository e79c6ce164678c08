"""Rows of one scorer on one part of the data: images or slices, studies, pixels, objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import auroc, average_precision
from models.evaluation.objects import Objects, count_objects
from models.evaluation.picture_baselines import SHORTCUTS
from models.evaluation.pixels import PixelPool, dice_of
from models.evaluation.ranking import (
    MOST_ALARMS,
    Decisions,
    area_by_trapezoids,
    conformal_threshold,
    decide,
    equal_error_threshold,
    false_positive_rate,
    most_telling,
    regress_out,
)
from models.evaluation.resampling import Interval, case_intervals
from models.evaluation.rows import Row
from models.evaluation.scoring import Scored, of_finding
from models.images.picture import Picture

CENTRAL = (0.3, 0.8)  # Relative positions of slices that lesions are found in.
REGRESSED = ("sharpness", "contrast")
NORMALS_PASSED = 0.95  # Share of the normals of protocol 001 below its threshold.
HEALTHY_SHARE = 0.98  # Share of the pixels of normals below the fixed threshold of maps.
SMALLEST_OBJECT = 8  # Pixels; methods, section 4.2.


@dataclass(frozen=True, slots=True, kw_only=True)
class Rowing:
    """What all rows of one scorer share.

    Attributes
    ----------
    artefact, split, scorer : str
        ``scorer`` is empty for the model.
    seed, draws : int
        Of the intervals.
    """

    artefact: str
    split: str
    scorer: str
    seed: int
    draws: int

    def row(self, finding: str, metric: str, value: float, n: int, interval: Interval | None = None) -> Row:
        """One number; an interval that cannot be given is left out."""
        known = interval is not None and bool(np.isfinite(interval).all())
        low, high = interval if interval is not None and known else (None, None)
        name = f"{metric}:{self.scorer}" if self.scorer else metric
        return Row(
            artefact=self.artefact,
            split=self.split,
            finding=finding,
            metric=name,
            value=float(value),
            low=low,
            high=high,
            n=n,
        )


def rows_of_part(
    rowing: Rowing,
    scored: Scored,
    calibration: Scored | None,
    groups: dict[str, Sequence[str] | None],
    band: float | None = None,
) -> list[Row]:
    """All rows of one scorer on one part.

    Parameters
    ----------
    rowing : Rowing
    scored : Scored
        The part.
    calibration : Scored, optional
        Normals kept aside, which the operating point comes from.
    groups : dict of str to sequence of str or None
        Row name to findings; None stands for all.
    band : float, optional
        Value of a map that the fixed-threshold figures use where the folder has no normals kept aside.
    """
    rows: list[Row] = []
    for finding, findings in groups.items():
        chosen = of_finding(scored.pictures, findings)
        rows += _case_rows(rowing, scored, calibration, finding, chosen)
        rows += _study_rows(rowing, scored, finding, chosen)
    threshold = _healthy_threshold(calibration)
    named = next(iter(groups)) if len(groups) == 1 else ""
    rows += pixel_rows(rowing, scored, band if threshold is None else threshold, named)
    rows.append(rowing.row("", "seconds_per_study", scored.seconds, len(scored.studies)))
    return [row for row in rows if np.isfinite(row.value)]


def level(pictures: Sequence[Picture]) -> str:
    """``slice`` for stacks, ``image`` for single pictures."""
    return "slice" if any(picture.index > 0 for picture in pictures) else "image"


def _case_rows(
    rowing: Rowing,
    scored: Scored,
    calibration: Scored | None,
    finding: str,
    chosen: NDArray[np.bool_],
) -> list[Row]:
    pictures = [picture for picture, is_chosen in zip(scored.pictures, chosen, strict=True) if is_chosen]
    scores = scored.scores[chosen]
    truth = np.array([picture.label == 1 for picture in pictures], dtype=np.bool_)
    if not len(truth) or truth.all() or not truth.any():
        return []
    patients = [picture.patient for picture in pictures]
    n, name = len(truth), level(scored.pictures)
    if rowing.scorer in SHORTCUTS[1:]:
        scores, calibration = most_telling(truth, scores), None
    area, precision = case_intervals(truth, scores, patients, seed=rowing.seed, draws=rowing.draws)
    rows = [
        rowing.row(finding, f"{name}_auroc", auroc(truth, scores), n, area),
        rowing.row(finding, f"{name}_ap", average_precision(truth, scores), n, precision),
        rowing.row(finding, f"{name}_auprc_trapezoid", area_by_trapezoids(truth, scores), n),
        rowing.row(finding, f"{name}_fpr_at_95_tpr", false_positive_rate(truth, scores), n),
        rowing.row(finding, "prevalence", float(truth.mean()), n),
    ]
    if name == "slice":
        position = np.array([picture.covariates.get("slice_position", np.nan) for picture in pictures])
        inside = (position >= CENTRAL[0]) & (position <= CENTRAL[1])
        if truth[inside].any() and not truth[inside].all():
            owners = [patient for patient, is_in in zip(patients, inside, strict=True) if is_in]
            area, _ = case_intervals(
                truth[inside], scores[inside], owners, seed=rowing.seed, draws=rowing.draws
            )
            value = auroc(truth[inside], scores[inside])
            rows.append(rowing.row(finding, "slice_auroc_central", value, int(inside.sum()), area))
    known = np.array([[picture.covariates.get(key, np.nan) for key in REGRESSED] for picture in pictures])
    if rowing.scorer not in REGRESSED and np.isfinite(known).all():
        left = regress_out(scores, known, ~truth)
        area, _ = case_intervals(truth, left, patients, seed=rowing.seed, draws=rowing.draws)
        rows.append(rowing.row(finding, f"{name}_auroc_regressed", auroc(truth, left), n, area))
    if calibration is not None:
        rows += _operating_rows(rowing, truth, scores, calibration.scores, finding)
    return rows


def _operating_rows(
    rowing: Rowing,
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    reference: NDArray[np.float64],
    finding: str,
) -> list[Row]:
    """Decisions at the conformal point, at a percentile of normals (001), and where both errors are equal."""
    n = len(truth)
    decided = decide(truth, scores > conformal_threshold(reference, MOST_ALARMS))
    intervals = decided.intervals()
    rows = [
        rowing.row(finding, "sensitivity", decided.sensitivity, n, intervals["sensitivity"]),
        rowing.row(finding, "specificity", decided.specificity, n, intervals["specificity"]),
    ]
    passed = decide(truth, scores > np.quantile(reference, NORMALS_PASSED))
    equal = decide(truth, scores >= equal_error_threshold(truth, scores))
    for suffix, found in (("at_normals_95", passed), ("at_equal_error_optimistic", equal)):
        rows += [rowing.row(finding, f"{key}_{suffix}", value, n) for key, value in _four(found).items()]
    return rows


def _four(found: Decisions) -> dict[str, float]:
    return {
        "f1": found.f1,
        "accuracy": found.accuracy,
        "recall": found.sensitivity,
        "precision": found.precision,
    }


def _study_rows(rowing: Rowing, scored: Scored, finding: str, chosen: NDArray[np.bool_]) -> list[Row]:
    """Stacks as wholes: abnormal if a slice is, where there are both kinds."""
    if level(scored.pictures) == "image":
        return []
    label: dict[str, bool] = {}
    owner: dict[str, str] = {}
    for picture, is_chosen in zip(scored.pictures, chosen, strict=True):
        if is_chosen:
            label[picture.study] = label.get(picture.study, False) or picture.label == 1
            owner[picture.study] = picture.patient
    truth = np.array(list(label.values()), dtype=np.bool_)
    if truth.all() or not truth.any():
        return []
    scores = np.array([scored.studies[study] for study in label])
    area, _ = case_intervals(
        truth, scores, [owner[study] for study in label], seed=rowing.seed, draws=rowing.draws
    )
    return [rowing.row(finding, "study_auroc", auroc(truth, scores), len(truth), area)]


def pixel_rows(rowing: Rowing, scored: Scored, threshold: float | None, finding: str = "") -> list[Row]:
    """Pixels at native resolution: pooled over the part, scan by scan, and as objects."""
    if scored.maps is None or all(picture.lesion is None for picture in scored.pictures):
        return []
    pool, precisions, scans = PixelPool(), [], []
    for patient, maps, lesions in scored.native():
        precisions.append(pool.add(patient, maps, lesions).average_precision)
        if threshold is not None:
            scans.append(_scan(maps, lesions, threshold))
    curve = pool.curve()
    if not curve.hits[-1]:
        return []
    intervals = pool.intervals(seed=rowing.seed, draws=rowing.draws)
    n = len(pool.patients)
    known = np.array(precisions)[np.isfinite(precisions)]
    rows = [
        rowing.row(finding, "pixel_ap", curve.average_precision, n, intervals["pixel_ap"]),
        rowing.row(finding, "pixel_auroc", curve.auroc, n),
        rowing.row(finding, "pixel_dice_best", curve.best_dice, n, intervals["pixel_dice_best"]),
        rowing.row(finding, "pixel_prevalence", curve.prevalence, n),
        rowing.row(finding, "pixel_ap_scan_mean", float(known.mean()), len(known)),
        rowing.row(finding, "pixel_ap_scan_median", float(np.median(known)), len(known)),
    ]
    if threshold is not None:
        rows.append(rowing.row(finding, "pixel_dice", pool.dice_at(threshold), n))
        rows += _scan_rows(rowing, finding, scans)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """What one scan shows at the fixed threshold."""

    dice: float
    flagged_share: float
    objects: Objects
    is_normal: bool


def _healthy_threshold(calibration: Scored | None) -> float | None:
    """98th percentile of what normals kept aside show (003)."""
    if calibration is None or calibration.maps is None:
        return None
    inside = [m[p.mask] for m, p in zip(calibration.maps, calibration.pictures, strict=True)]
    return float(np.quantile(np.concatenate(inside), HEALTHY_SHARE))


def _scan(maps: NDArray[np.float32], lesions: NDArray[np.bool_], threshold: float) -> _Scan:
    flagged = maps >= threshold
    return _Scan(
        dice=dice_of(maps, lesions, threshold),
        flagged_share=float(flagged[~lesions].mean()) if not lesions.all() else float("nan"),
        objects=count_objects(flagged, lesions, smallest=SMALLEST_OBJECT),
        is_normal=not lesions.any(),
    )


def _scan_rows(rowing: Rowing, finding: str, scans: Sequence[_Scan]) -> list[Row]:
    dice = np.array([scan.dice for scan in scans if not scan.is_normal])
    alarms = [scan.objects.alarms for scan in scans if scan.is_normal]
    n = len(scans)
    rows = [
        rowing.row(finding, "pixel_dice_scan_mean", float(dice.mean()), len(dice)),
        rowing.row(finding, "pixel_dice_scan_median", float(np.median(dice)), len(dice)),
        rowing.row(finding, "pixel_fpr", float(np.nanmean([scan.flagged_share for scan in scans])), n),
        rowing.row(finding, "objects_found_per_scan", sum(scan.objects.found for scan in scans) / n, n),
        rowing.row(finding, "objects_false_per_scan", sum(scan.objects.alarms for scan in scans) / n, n),
        rowing.row(finding, "objects_missed_per_scan", sum(scan.objects.missed for scan in scans) / n, n),
    ]
    if alarms:
        rows.append(rowing.row(finding, "objects_false_per_normal_scan", float(np.mean(alarms)), len(alarms)))
    return rows

"""A cohort's results as rows of tables: ranked studies with their place on the list, and regions in them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import cbrt, pi

from sqlalchemy.orm import Session

from models.discoveries import adjusted
from service.store import cohort_results
from service.store.cohort_results import CohortResult

MIDDLE_MM = 5.0  # from the origin to either side: no side is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One member, as the tables have it.

    Attributes
    ----------
    rank : int or None
        From 1, most unusual first.
    percentile : float or None
        Normality percentile, 100 p.
    q_value : float or None
        Smallest false-discovery rate at which the study is on the list (Benjamini, Hochberg).
    is_listed : bool
        It is on the list at the cohort's rate.
    """

    rank: int | None
    percentile: float | None
    q_value: float | None
    is_listed: bool
    result: CohortResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One region of a scored study.

    Attributes
    ----------
    number : int
        Within the study, from 1, strongest first.
    volume_mm3, diameter_mm : float or None
        Size, and the diameter of a ball of that size. None on a single picture, which has no depth.
    peak, mean : float
        Of the map, 0 to 1.
    x_mm, y_mm, z_mm : float or None
        Centre in the patient's millimetres, LPS: towards left, back and head.
    side : str
        ``left`` or ``right`` of the scanner's origin, ``middle``, or empty.
    slice : int
        With the peak, from 1.
    """

    number: int
    volume_mm3: float | None
    diameter_mm: float | None
    peak: float
    mean: float
    x_mm: float | None
    y_mm: float | None
    z_mm: float | None
    side: str
    slice: int


def ranked(session: Session, cohort_id: int, q: float) -> Iterator[Ranked]:
    """Every member in the order of the ranking, those without a score at the end."""
    q_values = adjusted(cohort_results.ranked_p_values(session, cohort_id))
    for number, result in enumerate(cohort_results.results(session, cohort_id)):
        is_scored = result.p_value is not None and number < len(q_values)
        q_value = float(q_values[number]) if is_scored else None
        yield Ranked(
            rank=number + 1 if is_scored else None,
            percentile=None if result.p_value is None else 100.0 * result.p_value,
            q_value=q_value,
            is_listed=q_value is not None and q_value <= q,
            result=result,
        )


def findings_of(result: CohortResult) -> tuple[Finding, ...]:
    """Regions of a study with size and place."""
    has_depth = result.slices > 1
    found = []
    for number, region in enumerate(result.regions, start=1):
        centre: Sequence[float] = region["centre_mm"]
        volume = float(region["volume_mm3"]) if has_depth else None
        place = [float(value) for value in centre] if has_depth else [None, None, None]
        found.append(
            Finding(
                number=number,
                volume_mm3=volume,
                diameter_mm=None if volume is None else cbrt(6 * volume / pi),
                peak=float(region["peak"]),
                mean=float(region["mean"]),
                x_mm=place[0],
                y_mm=place[1],
                z_mm=place[2],
                side=_side(place[0]),
                slice=int(region["slice_index"]) + 1,
            )
        )
    return tuple(found)


def _side(x_mm: float | None) -> str:
    if x_mm is None:
        return ""
    if abs(x_mm) <= MIDDLE_MM:
        return "middle"
    return "left" if x_mm > 0 else "right"


def row_of(item: Ranked) -> dict[str, object]:
    """Columns of the ranked table, in their order."""
    result = item.result
    findings = findings_of(result)
    first = findings[0] if findings else None
    return {
        "rank": item.rank,
        "study": result.mark,
        "outcome": result.outcome,
        "reason": result.reason,
        "p_value": result.p_value,
        "percentile": item.percentile,
        "q_value": item.q_value,
        "on_list": item.is_listed if item.rank else None,
        "study_score": result.study_score,
        "modality": result.modality,
        "reference_group": result.reference_group,
        "reference_n": result.reference_n,
        "regions": len(findings) if item.rank else None,
        "strongest_volume_mm3": first.volume_mm3 if first else None,
        "strongest_diameter_mm": first.diameter_mm if first else None,
        "strongest_side": first.side if first else "",
        "model": result.model_name,
        "model_version": result.model_version,
        "model_sha256": result.model_sha256,
        "calibration_sha256": result.calibration_sha256,
    }


def finding_rows(item: Ranked) -> Iterator[dict[str, object]]:
    """Columns of the table of findings, one row a region."""
    for finding in findings_of(item.result):
        yield {"rank": item.rank, "study": item.result.mark, **asdict(finding)}

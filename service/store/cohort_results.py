"""What a screened cohort came to, row by row: never all of it in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from service.store.tables import CohortStudyRow, MapRow, ResultRow, ScoreRow, StudyRow
from service.study import Band, MemberState, State

AT_A_TIME = 500  # rows
PENDING = "pending"
LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortResult:
    """One member.

    Attributes
    ----------
    mark : str
        Its pseudonym in the cohort: the study key, or that of an accession number that led to none.
    outcome : str
        ``scored``, ``not_assessable``, ``failed``, ``left_out`` or ``pending``.
    reason : str or None
        Code of why there is no score.
    p_value, study_score : float or None
    modality : str
    model_name, model_version, model_sha256, calibration_sha256 : str
    reference_group : str
    reference_n : int or None
    regions : tuple of dict
        As the score has them, largest peak first.
    slices : int
        Of the scored series.
    run_at : datetime or None
    """

    mark: str
    outcome: str
    reason: str | None
    p_value: float | None
    study_score: float | None
    modality: str
    model_name: str
    model_version: str
    model_sha256: str
    calibration_sha256: str
    reference_group: str
    reference_n: int | None
    regions: tuple[dict[str, Any], ...]
    slices: int
    run_at: datetime | None


def ranked_p_values(session: Session, cohort_id: int) -> list[float]:
    """Return the p-values of all scored members, in the order of `results`."""
    query = _members(select(ScoreRow.p_value), cohort_id).where(_IS_RANKED).order_by(*_ORDER)
    return [float(value) for value in session.scalars(query) if value is not None]


def results(session: Session, cohort_id: int) -> Iterator[CohortResult]:
    """Every member: the scored ones most unusual first, then those without a score by outcome and key."""
    query = _members(select(CohortStudyRow, StudyRow, ScoreRow, _IS_RANKED), cohort_id)
    ordered = query.order_by((~_IS_RANKED).asc(), *_ORDER).execution_options(yield_per=AT_A_TIME)
    for member, study, score, is_ranked in session.execute(ordered):
        yield _result(member, study, score, is_ranked=bool(is_ranked))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a result, as `LocalObjects.local` wants it."""

    path: str
    sha256: str
    bytes: int


def maps_of(session: Session, keys: list[str]) -> dict[str, StoredFile]:
    """Return the anomaly maps of studies that have one."""
    rows = session.execute(
        select(StudyRow.key, MapRow.path, MapRow.sha256, MapRow.bytes)
        .join(MapRow, MapRow.score_id == StudyRow.score_id)
        .where(StudyRow.key.in_(keys), StudyRow.state == State.SCORED, _is_kept())
    )
    return {key: StoredFile(path=path, sha256=sha256, bytes=size) for key, path, sha256, size in rows}


def pictures_of(session: Session, keys: list[str]) -> dict[str, StoredFile]:
    """Return the objects whose frames are the pictures of studies, where they are still kept."""
    rows = session.execute(
        select(StudyRow.key, ResultRow.path, ResultRow.sha256, ResultRow.bytes)
        .join(ResultRow, and_(ResultRow.score_id == StudyRow.score_id, ResultRow.kind == "sc"))
        .join(ScoreRow, ScoreRow.id == StudyRow.score_id)
        .where(StudyRow.key.in_(keys), StudyRow.state == State.SCORED, _is_kept())
    )
    return {key: StoredFile(path=path, sha256=sha256, bytes=size) for key, path, sha256, size in rows}


def _is_kept() -> ColumnElement[bool]:
    return or_(StudyRow.deleted_at.is_(None), StudyRow.ended_at > StudyRow.deleted_at)


# The list's own condition: what is scored and not scored anew. All other members have no number (I7): of one
# that was left out, what could be had may have been scored, and that is not the study the source holds.
_IS_RANKED: ColumnElement[bool] = and_(
    func.coalesce(StudyRow.band == Band.RANKED, False), CohortStudyRow.state != MemberState.LEFT_OUT
)
_ORDER = (
    case((_IS_RANKED, ScoreRow.p_value)).asc().nulls_last(),
    case((_IS_RANKED, func.coalesce(ScoreRow.tail, ScoreRow.p_value))).asc().nulls_last(),
    case((_IS_RANKED, ScoreRow.study_score)).desc().nulls_last(),
    CohortStudyRow.mark.asc(),
)


def _members(query: Select[*tuple[Any, ...]], cohort_id: int) -> Select[*tuple[Any, ...]]:
    return (
        query.select_from(CohortStudyRow)
        .outerjoin(StudyRow, StudyRow.key == CohortStudyRow.study_key)
        .outerjoin(ScoreRow, ScoreRow.id == StudyRow.score_id)
        .where(CohortStudyRow.cohort_id == cohort_id)
    )


def _result(
    member: CohortStudyRow, study: StudyRow | None, score: ScoreRow | None, *, is_ranked: bool
) -> CohortResult:
    outcome, reason = PENDING, None
    if member.state is MemberState.LEFT_OUT:
        outcome, reason = LEFT_OUT, member.reason
    elif study is not None and study.state in {State.NOT_ASSESSABLE, State.FAILED}:
        outcome, reason = study.state.value, study.reason
    elif is_ranked:
        outcome = State.SCORED.value
    numbers = score if is_ranked else None
    return CohortResult(
        mark=member.mark,
        outcome=outcome,
        reason=reason,
        p_value=numbers.p_value if numbers else None,
        study_score=numbers.study_score if numbers else None,
        modality=study.modality if study else "",
        model_name=score.model_name if score else "",
        model_version=score.model_version if score else "",
        model_sha256=score.model_hash if score else "",
        calibration_sha256=numbers.calibration_hash if numbers else "",
        reference_group=numbers.reference_group if numbers else "",
        reference_n=numbers.reference_n if numbers else None,
        regions=tuple(numbers.regions) if numbers else (),
        slices=numbers.pictures if numbers else 0,
        run_at=score.run_at.astimezone(UTC) if score else None,
    )

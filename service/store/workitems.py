"""Work items: one for each study that waits for reading, as UPS-RS hands them out (PS3.4 CC, PS3.18 11).

Here they are read; `service.store.work` makes and moves them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from service.access import Identity
from service.errors import TriageError
from service.store.identities import identity_in
from service.store.order import by_triage
from service.store.rows import Assessment, assessment_of
from service.store.search import BY_NAME, Attribute, BadSearchError, Level, condition
from service.store.tables import IdentityRow, ScoreRow, StudyRow, WorkitemRow
from service.study import Band, Priority, State


class WorkState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


ENDS = frozenset({WorkState.COMPLETED, WorkState.CANCELED})


class UnknownWorkitemError(TriageError):
    """There is no such work item. Search for those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitem:
    """One work item with what it is about.

    Attributes
    ----------
    uid : str
    study_key : str
    state : WorkState
    priority : Priority
    band : Band
    study_state : State
    reason : str or None
        Code of why the study has no score.
    assessment : Assessment or None
        Only of a scored study.
    is_receiving : bool
        Instances have come that its score does not include.
    flag : str or None
        Code of what a person must look at, whatever the state.
    identity : Identity
    modality, description : str
    performer : str or None
    progress : float or None
        Percent.
    progress_text, cancel_reason : str
    ready_at, modified_at : datetime
    started_at, ended_at : datetime or None
    """

    uid: str
    study_key: str
    state: WorkState
    priority: Priority
    band: Band
    study_state: State
    reason: str | None
    assessment: Assessment | None
    is_receiving: bool
    flag: str | None
    identity: Identity
    modality: str
    description: str
    performer: str | None
    progress: float | None
    progress_text: str
    cancel_reason: str
    ready_at: datetime
    modified_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitems:
    """A page of them, in the order of the list, and how many more there are."""

    found: tuple[Workitem, ...]
    remaining: int


STATE = Attribute(
    tag="00741000", keyword="ProcedureStepState", vr="CS", level=Level.STUDY, column=WorkitemRow.state
)
UID = Attribute(tag="00080018", keyword="SOPInstanceUID", vr="UI", level=Level.STUDY, column=WorkitemRow.uid)
PRIORITY = Attribute(tag="00741200", keyword="ScheduledProcedureStepPriority", vr="CS", level=Level.STUDY)
MATCHED: Final[Mapping[str, Attribute]] = {
    name: attribute
    for attribute in (
        STATE,
        UID,
        PRIORITY,
        *(
            BY_NAME[name]
            for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID")
        ),
    )
    for name in (attribute.tag, attribute.keyword)
}
# PS3.3 C.30.2: a UPS knows three, and HIGH is what STAT is called.
PRIORITIES: Final = {
    "HIGH": (Priority.STAT, Priority.URGENT),
    "MEDIUM": (Priority.ROUTINE,),
    "LOW": (Priority.SCREENING,),
}


def find(
    session: Session, matches: Mapping[Attribute, str], *, limit: int, cutoff: datetime, offset: int = 0
) -> Workitems:
    """Page of the work items that match, in the order of the list.

    Parameters
    ----------
    session : Session
    matches : mapping of Attribute to str
    limit, offset : int
    cutoff : datetime
        Whose study came by then and is unseen is overdue.

    Raises
    ------
    BadSearchError
        If a value is none that its attribute can have.
    """
    conditions = [_matching(attribute, value) for attribute, value in matches.items() if value]
    order = (*by_triage(cutoff), WorkitemRow.id)
    rows = session.execute(_read().where(*conditions).order_by(*order).limit(limit + 1).offset(offset)).all()
    remaining = 0
    if len(rows) > limit:
        total = session.scalar(select(func.count()).select_from(_read().where(*conditions).subquery()))
        remaining, rows = (total or 0) - offset - limit, rows[:limit]
    return Workitems(found=tuple(_value(*row) for row in rows), remaining=max(remaining, 0))


def get(session: Session, uid: str) -> Workitem:
    """One work item.

    Raises
    ------
    UnknownWorkitemError
        If there is none.
    """
    row = session.execute(_read().where(WorkitemRow.uid == uid)).one_or_none()
    if row is None:
        raise UnknownWorkitemError(UnknownWorkitemError.__doc__)
    return _value(*row)


_IS_JUDGED = and_(
    StudyRow.band == Band.RANKED,
    StudyRow.score_id == ScoreRow.id,
    ScoreRow.state == State.SCORED,
    ScoreRow.p_value.is_not(None),
    ScoreRow.study_score.is_not(None),
)  # as `_value` has an assessment
# What could not be judged never says LOW, and is found as what it says.
_PRIORITY = case(
    (or_(StudyRow.priority != Priority.SCREENING, _IS_JUDGED), StudyRow.priority), else_=Priority.ROUTINE
)


def _read() -> Select[Any, Any, Any, Any]:
    return (
        select(WorkitemRow, StudyRow, ScoreRow, IdentityRow)
        .join(StudyRow, StudyRow.id == WorkitemRow.study_id)
        .join(ScoreRow, ScoreRow.id == WorkitemRow.score_id)
        .outerjoin(IdentityRow, IdentityRow.study_id == StudyRow.id)
    )


def _matching(attribute: Attribute, value: str) -> Any:
    if attribute is not PRIORITY:
        return condition(attribute, value)
    if value not in PRIORITIES:
        raise BadSearchError("The value of ScheduledProcedureStepPriority is not HIGH, MEDIUM or LOW.")
    return _PRIORITY.in_([int(one) for one in PRIORITIES[value]])


def _value(row: WorkitemRow, study: StudyRow, score: ScoreRow, identity: IdentityRow | None) -> Workitem:
    def utc(at: datetime | None) -> datetime | None:
        return at.astimezone(UTC) if at else None

    return Workitem(
        uid=row.uid,
        study_key=study.key,
        state=WorkState(row.state),
        priority=Priority(study.priority),
        band=Band(study.band),
        study_state=score.state,
        reason=score.reason,
        # Of a study that is being scored again the old number does not hold any more (I7).
        assessment=assessment_of(score) if study.band == Band.RANKED and study.score_id == score.id else None,
        is_receiving=study.is_pending,
        flag=study.flag,
        identity=identity_in(identity),
        modality=study.modality,
        description=study.description,
        performer=row.performer,
        progress=row.progress,
        progress_text=row.progress_text,
        cancel_reason=row.reason,
        ready_at=row.created_at.astimezone(UTC),
        modified_at=row.modified_at.astimezone(UTC),
        started_at=utc(row.started_at),
        ended_at=utc(row.ended_at),
    )

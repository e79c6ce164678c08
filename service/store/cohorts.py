"""Cohorts: which studies belong to a screening, and how far each of them has come.

A study is a member by its pseudonym before anybody has a row of it. The intake asks here whether what it
finds in the spool is a member, and whether all of it is there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.errors import UnknownCohortError
from service.store import audit
from service.store.among import among
from service.store.tables import CohortRow, CohortStudyRow, InstanceRow, StudyRow
from service.study import ENDED, CohortState, MemberState, State

# So long after it was wanted the intake leaves a study to whoever copies it; then it is one like any other.
CLAIM = timedelta(seconds=120)
UNHURRIED = timedelta(seconds=60)
GONE = "gone"  # the source has it no longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """One screening.

    Attributes
    ----------
    id : int
    name : str
    q : float
        False-discovery rate of its list.
    state : CohortState
    created_at : datetime
    ended_at : datetime or None
    files : mapping of str to int
        What became of the files of the source, by code.
    """

    id: int
    name: str
    q: float
    state: CohortState
    created_at: datetime
    ended_at: datetime | None
    files: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What the intake asks of a study of the spool.

    Attributes
    ----------
    instances : int or None
        So many make it whole; None: nobody can say yet.
    is_claimed : bool
        Somebody is copying it at this moment.
    """

    instances: int | None
    is_claimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a cohort has come.

    Attributes
    ----------
    members : int
    left_out : int
        Could not be had.
    queued : int
        Taken in: the rest is the workers'.
    ended : dict of State to int
        Of the ended ones, by state.
    """

    members: int
    left_out: int
    queued: int
    ended: dict[State, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to any member."""
        return self.left_out + sum(self.ended.values()) == self.members


def begin(session: Session, *, name: str, source: str, q: float, actor: str) -> Cohort:
    """Return the cohort of a name and a source, made where it is new; with another q it gets that."""
    added = insert(CohortRow).values(name=name, source=source, q=q, state=CohortState.GATHERING, by=actor)
    known = session.scalar(select(CohortRow.id).where(CohortRow.source == source, CohortRow.name == name))
    session.execute(
        added.on_conflict_do_update(
            index_elements=["source", "name"],
            set_={"q": q, "state": CohortState.GATHERING, "ended_at": None},
        )
    )
    row = session.scalars(select(CohortRow).where(CohortRow.source == source, CohortRow.name == name)).one()
    audit.append(
        session, "cohort.begun" if known is None else "cohort.resumed", actor=actor, cohort=row.id, q=q
    )
    return _cohort(row)


def one(session: Session, cohort_id: int) -> Cohort:
    """Return one cohort.

    Raises
    ------
    UnknownCohortError
        If there is none of this number.
    """
    row = session.get(CohortRow, cohort_id)
    if row is None:
        raise UnknownCohortError(UnknownCohortError.__doc__)
    return _cohort(row)


def every(session: Session) -> tuple[Cohort, ...]:
    """Return all cohorts, newest first."""
    return tuple(_cohort(row) for row in session.scalars(select(CohortRow).order_by(CohortRow.id.desc())))


def move(
    session: Session, cohort_id: int, state: CohortState, *, files: Mapping[str, int], actor: str
) -> None:
    """Say that all studies of a cohort are gathered, or have ended."""
    ended_at = datetime.now(UTC) if state is CohortState.ENDED else None
    counts = {code: count for code, count in files.items() if count}
    session.execute(
        update(CohortRow)
        .where(CohortRow.id == cohort_id)
        .values(state=state, ended_at=ended_at, files=counts)
    )
    audit.append(session, f"cohort.{state.value}", actor=actor, cohort=cohort_id, files=counts)


def want(session: Session, cohort_id: int, keys: Iterable[str]) -> None:
    """Claim studies that are about to be copied; those that were taken before are claimed anew."""
    _put(
        session,
        cohort_id,
        [{"mark": key, "study_key": key, "state": MemberState.WANTED} for key in sorted(keys)],
    )


def have(
    session: Session, cohort_id: int, found: Mapping[str, int], *, state: MemberState = MemberState.COPIED
) -> None:
    """Say that so many instances of each study are in the spool, or known to Vigil, and no more will come."""
    _put(
        session,
        cohort_id,
        [
            {"mark": key, "study_key": key, "instances": count, "state": state}
            for key, count in sorted(found.items())
        ],
    )


def leave_out(session: Session, cohort_id: int, reasons: Mapping[str, str]) -> None:
    """Say why members could not be had, by their marks."""
    _put(
        session,
        cohort_id,
        [
            {"mark": mark, "state": MemberState.LEFT_OUT, "reason": reason}
            for mark, reason in sorted(reasons.items())
        ],
    )


def _put(session: Session, cohort_id: int, rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        return
    added = insert(CohortStudyRow)
    unsaid = {"study_key": None, "instances": None, "reason": None}
    session.execute(
        added.on_conflict_do_update(
            index_elements=["cohort_id", "mark"],
            set_={
                "state": added.excluded.state,
                "instances": added.excluded.instances,
                "reason": added.excluded.reason,
                "at": func.now(),
            },
        ),
        [{"cohort_id": cohort_id, **unsaid, **row} for row in rows],
    )


def settled(session: Session, cohort_id: int, keys: Sequence[str]) -> dict[str, int]:
    """Return members that need not be copied again, with the instances they were whole with."""
    rows = session.execute(
        select(CohortStudyRow.mark, CohortStudyRow.instances).where(
            CohortStudyRow.cohort_id == cohort_id,
            CohortStudyRow.state.in_((MemberState.COPIED, MemberState.TAKEN)),
            CohortStudyRow.instances.is_not(None),
            among(CohortStudyRow.mark, keys),
        )
    )
    return {mark: count for mark, count in rows if count is not None}


def has_ended(session: Session, key: str) -> bool:
    """Whether Vigil knows a study and is done with it."""
    return (
        session.scalar(select(StudyRow.id).where(StudyRow.key == key, StudyRow.state.in_(ENDED))) is not None
    )


def held(session: Session, key: str) -> int:
    """Return how many instances of a study have a row."""
    query = select(func.count(InstanceRow.id)).join(StudyRow, StudyRow.id == InstanceRow.study_id)
    return session.scalar(query.where(StudyRow.key == key)) or 0


def memberships(session: Session, keys: Sequence[str]) -> dict[str, Membership]:
    """Return what cohorts say of studies, those left out that belong to none."""
    young = func.bool_or(
        (CohortStudyRow.state == MemberState.WANTED) & (CohortStudyRow.at > datetime.now(UTC) - CLAIM)
    )
    count = func.max(case((CohortStudyRow.state == MemberState.COPIED, CohortStudyRow.instances)))
    rows = session.execute(
        select(CohortStudyRow.study_key, count, young)
        .where(among(CohortStudyRow.study_key, keys), CohortStudyRow.state != MemberState.LEFT_OUT)
        .group_by(CohortStudyRow.study_key)
    )
    return {
        key: Membership(instances=instances, is_claimed=is_young and instances is None)
        for key, instances, is_young in rows
    }


def taken(session: Session, keys: Sequence[str]) -> None:
    """Say that the intake has taken members."""
    session.execute(
        update(CohortStudyRow)
        .where(among(CohortStudyRow.study_key, keys), CohortStudyRow.state == MemberState.COPIED)
        .values(state=MemberState.TAKEN)
    )


def leave_out_the_rest(session: Session, cohort_id: int) -> None:
    """Say of members that are still wanted that the source has them no longer: an earlier run met them."""
    session.execute(
        update(CohortStudyRow)
        .where(CohortStudyRow.cohort_id == cohort_id, CohortStudyRow.state == MemberState.WANTED)
        .values(state=MemberState.LEFT_OUT, reason=GONE)
    )


def settle(session: Session, cohort_id: int) -> None:
    """Say of members that the intake has taken them which it took before they were said to be whole.

    A study that comes slowly is complete by its quiet period before its last word; nothing of it is new then.
    """
    is_complete = (
        select(StudyRow.id)
        .where(
            StudyRow.key == CohortStudyRow.study_key, ~StudyRow.is_pending, StudyRow.completed_at.is_not(None)
        )
        .exists()
    )
    session.execute(
        update(CohortStudyRow)
        .where(
            CohortStudyRow.cohort_id == cohort_id,
            CohortStudyRow.state == MemberState.COPIED,
            CohortStudyRow.at < datetime.now(UTC) - UNHURRIED,  # what is new would be registered by now
            is_complete,
        )
        .values(state=MemberState.TAKEN)
    )


def progress(session: Session, cohort_id: int) -> Progress:
    """Count how far a cohort has come, in one query."""
    is_ended = (CohortStudyRow.state == MemberState.TAKEN) & StudyRow.state.in_(ENDED)
    rows = session.execute(
        select(CohortStudyRow.state, case((is_ended, StudyRow.state)), func.count())
        .outerjoin(StudyRow, StudyRow.key == CohortStudyRow.study_key)
        .where(CohortStudyRow.cohort_id == cohort_id)
        .group_by(CohortStudyRow.state, case((is_ended, StudyRow.state)))
    ).all()
    ended: dict[State, int] = dict.fromkeys(sorted(ENDED), 0)
    for _, state, count in rows:
        if state is not None:
            ended[State(state)] += count
    return Progress(
        members=sum(count for _, _, count in rows),
        left_out=sum(count for state, _, count in rows if state is MemberState.LEFT_OUT),
        queued=sum(count for state, _, count in rows if state is MemberState.TAKEN),
        ended=ended,
    )


def _cohort(row: CohortRow) -> Cohort:
    return Cohort(
        id=row.id,
        name=row.name,
        q=row.q,
        state=row.state,
        created_at=row.created_at.astimezone(UTC),
        ended_at=row.ended_at.astimezone(UTC) if row.ended_at else None,
        files={str(code): int(count) for code, count in row.files.items()},
    )

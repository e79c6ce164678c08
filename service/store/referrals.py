"""Incidental findings on their way to whoever takes care of them: append-only, each with a day it is due."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from service.errors import ConflictError, TriageError
from service.store import audit, studies
from service.store.among import among
from service.store.paging import Page, Place, read_page
from service.store.tables import ReferralRow, StudyRow
from service.store.versions import is_newest_version, newest
from service.study import REFERRAL_MOVES, ReferralState

LONGEST_NOTE = 1000  # characters
MOST_OF_A_STUDY = 100


class UnknownReferralError(TriageError):
    """The study has no referral of this number. List what it has under its key."""


class ReferralMoveError(TriageError):
    """A referral cannot go there. Its way: reported, reviewed, referred, closed; a closed one is reviewed."""


class TooManyReferralsError(TriageError):
    """The study has more referrals than anybody follows. Change one of those that are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """One version of a referral.

    Attributes
    ----------
    key : str
        Of the study.
    number : int
        Within the study, from 1.
    version : int
        From 1; each change is one more.
    state : ReferralState
    due : date
        By when it is to be closed.
    note : str
        In somebody's words; may name a patient, so it stays in its table.
    by : str
    at : datetime
        Of this version.
    """

    key: str
    number: int
    version: int
    state: ReferralState
    due: date
    note: str
    by: str
    at: datetime

    def days_left(self, today: date) -> int:
        """Days until it is due; negative where it is overdue."""
        return (self.due - today).days

    def is_overdue(self, today: date) -> bool:
        """Whether it should have been closed before today."""
        return self.state is not ReferralState.CLOSED and self.due < today


def has_open() -> ColumnElement[bool]:
    """Build the condition that a finding of the outer query's study is not closed yet."""
    return (
        exists(ReferralRow.id)
        .where(
            ReferralRow.study_id == StudyRow.id,
            ReferralRow.state != ReferralState.CLOSED,
            is_newest_version(ReferralRow),
        )
        .correlate(StudyRow)
    )


def report(session: Session, key: str, *, due: date, note: str, actor: str) -> Referral:
    """Write down that there is something to look into.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    TooManyReferralsError
        If the study has `MOST_OF_A_STUDY` already.
    """
    study = studies.locked(session, key)
    query = select(func.max(ReferralRow.number)).where(ReferralRow.study_id == study.id)
    last = session.scalar(query) or 0
    if last >= MOST_OF_A_STUDY:
        raise TooManyReferralsError(TooManyReferralsError.__doc__)
    row = ReferralRow(
        study_id=study.id,
        number=last + 1,
        version=1,
        state=ReferralState.REPORTED,
        due=due,
        note=note,
        by=actor,
        at=datetime.now(UTC),
    )
    return _stored(session, key, row, before=None)


def change(
    session: Session,
    key: str,
    number: int,
    *,
    state: ReferralState,
    due: date,
    note: str,
    actor: str,
    versions: frozenset[int] | None,
) -> Referral:
    """Store another version: another state, another day, another note.

    Parameters
    ----------
    versions : frozenset of int or None
        What the caller saw; None: whatever it is now.

    Raises
    ------
    UnknownStudyError, UnknownReferralError
        If there is no such study, or no such referral of it.
    ConflictError
        If somebody changed it since.
    ReferralMoveError
        If it cannot go there.
    """
    study = studies.locked(session, key)
    before = _newest(session, study.id, number)
    if versions is not None and before.version not in versions:
        raise ConflictError(ConflictError.__doc__)
    if state is not before.state and state not in REFERRAL_MOVES[before.state]:
        raise ReferralMoveError(ReferralMoveError.__doc__)
    row = ReferralRow(
        study_id=study.id,
        number=number,
        version=before.version + 1,
        state=state,
        due=due,
        note=note,
        by=actor,
        at=datetime.now(UTC),
    )
    return _stored(session, key, row, before=before.state)


def one(session: Session, key: str, number: int) -> Referral:
    """Return a referral as it stands.

    Raises
    ------
    UnknownStudyError, UnknownReferralError
        If there is no such study, or no such referral of it.
    """
    return _referral(key, _newest(session, studies.id_of(session, key), number))


def history(session: Session, key: str, number: int) -> tuple[Referral, ...]:
    """Return all versions of a referral, newest first.

    Raises
    ------
    UnknownStudyError, UnknownReferralError
        If there is no such study, or no such referral of it.
    """
    study_id = studies.id_of(session, key)
    _newest(session, study_id, number)
    rows = session.scalars(
        select(ReferralRow)
        .where(ReferralRow.study_id == study_id, ReferralRow.number == number)
        .order_by(ReferralRow.version.desc())
    )
    return tuple(_referral(key, row) for row in rows)


def of_study(session: Session, key: str) -> tuple[Referral, ...]:
    """Return the referrals of a study as they stand, newest first.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    rows = session.scalars(
        select(ReferralRow)
        .where(ReferralRow.study_id == studies.id_of(session, key), is_newest_version(ReferralRow))
        .order_by(ReferralRow.number.desc())
    )
    return tuple(_referral(key, row) for row in rows)


def listed(
    session: Session,
    place: Place,
    *,
    study: str | None = None,
    state: ReferralState | None = None,
    overdue_at: date | None = None,
) -> Page[Referral]:
    """Return referrals of all studies as they stand, the last changed first.

    Parameters
    ----------
    study, state
        What is None does not narrow.
    overdue_at : date, optional
        Only those that are overdue on this day.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    query = (
        select(ReferralRow, StudyRow.key, ReferralRow.id)
        .join(StudyRow, StudyRow.id == ReferralRow.study_id)
        .where(is_newest_version(ReferralRow))
    )
    for column, value in ((StudyRow.key, study), (ReferralRow.state, state)):
        if value is not None:
            query = query.where(column == value)
    if overdue_at is not None:
        query = query.where(_is_open(), ReferralRow.due < overdue_at)
    page = read_page(session, query, [ReferralRow.id], place)
    return Page(
        items=tuple(_referral(key, row) for row, key, _ in page.items),
        next=page.next,
        previous=page.previous,
    )


def to_do(session: Session, *, limit: int) -> tuple[Referral, ...]:
    """Return open referrals of all studies, the longest due first."""
    rows = session.execute(
        select(ReferralRow, StudyRow.key)
        .join(StudyRow, StudyRow.id == ReferralRow.study_id)
        .where(is_newest_version(ReferralRow), _is_open())
        .order_by(ReferralRow.due, ReferralRow.id)
        .limit(limit)
    )
    return tuple(_referral(key, row) for row, key in rows)


def earliest_open(session: Session, study_ids: Sequence[int]) -> dict[int, Referral]:
    """Return of each of some studies the open referral that is due first."""
    rows = session.execute(
        select(ReferralRow, StudyRow.key)
        .join(StudyRow, StudyRow.id == ReferralRow.study_id)
        .where(among(ReferralRow.study_id, study_ids), is_newest_version(ReferralRow), _is_open())
        .order_by(ReferralRow.due.desc(), ReferralRow.id.desc())
    )
    return {row.study_id: _referral(key, row) for row, key in rows}  # the last one said is the earliest


def count_overdue(session: Session, today: date) -> int:
    """Return how many open referrals should have been closed before today."""
    query = select(func.count(ReferralRow.id)).where(
        is_newest_version(ReferralRow), _is_open(), ReferralRow.due < today
    )
    return session.scalar(query) or 0


def _is_open() -> ColumnElement[bool]:
    return ReferralRow.state != ReferralState.CLOSED


def _newest(session: Session, study_id: int, number: int) -> ReferralRow:
    row = newest(session, ReferralRow, study_id, number)
    if row is None:
        raise UnknownReferralError(UnknownReferralError.__doc__)
    return row


def _stored(session: Session, key: str, row: ReferralRow, *, before: ReferralState | None) -> Referral:
    session.add(row)
    session.flush()
    audit.append(
        session,
        f"referral.{row.state.value}" if row.state is not before else "referral.changed",
        actor=row.by,
        study_key=key,
        number=row.number,
        version=row.version,
        before=before,
        state=row.state.value,
        due=row.due.isoformat(),
    )
    return _referral(key, row)


def _referral(key: str, row: ReferralRow) -> Referral:
    return Referral(
        key=key,
        number=row.number,
        version=row.version,
        state=row.state,
        due=row.due,
        note=row.note,
        by=row.by,
        at=row.at.astimezone(UTC),
    )

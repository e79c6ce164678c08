"""Notices that studies of the list changed, numbered so that whoever missed some can ask from a number on.

Triggers write a notice in the transaction of its change. Transactions commit in another order than they
began, so a number taken while writing could appear after a larger one was read, and be missed. A notice is
therefore numbered after its commit, by whoever looks first; numberings take turns, so that whoever sees a
number can see all smaller ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from service.store.tables import ChangeRow
from service.store.tables.changes import NUMBERS

LOCK = 0x43_48_41_4E_47_45  # "CHANGE": numberings take turns until commit
KEPT = 20_000  # notices; whoever missed more reads the list again
BATCH = 10_000
CHANNEL = "vigil_change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One notice.

    Attributes
    ----------
    number : int
        Rises.
    key : str
        Of the study.
    change : str
        The new state, or priority, parked, seen, assigned, delivery, changed.
    """

    number: int
    key: str
    change: str


def note(session: Session, key: str, change: str) -> None:
    """Note a change that no column of the study shows."""
    session.execute(select(func.vigil.note_change(key, change)))


def newest(session: Session) -> int:
    """Number of the newest notice, those included that were committed before."""
    _number(session, waits=False)
    return session.scalar(select(func.max(ChangeRow.number))) or 0


def since(session: Session, number: int, *, limit: int) -> Sequence[Change] | None:
    """Notices after a number, oldest first; None where some of them are gone, or were never here."""
    oldest, last = session.execute(select(func.min(ChangeRow.number), func.max(ChangeRow.number))).one()
    if number == (last or 0):
        return ()
    if oldest is None or last is None or number > last or number < oldest - 1:
        return None
    rows = session.execute(
        select(ChangeRow.number, ChangeRow.study_key, ChangeRow.change)
        .where(ChangeRow.number > number)
        .order_by(ChangeRow.number)
        .limit(limit)
    )
    return tuple(Change(number=at or 0, key=key, change=change) for at, key, change in rows)


def settle(session: Session) -> int:
    """Number what was committed, forget what is old; return the newest number."""
    _number(session, waits=True)
    last = session.scalar(select(func.max(ChangeRow.number))) or 0
    session.execute(delete(ChangeRow).where(ChangeRow.number <= last - KEPT))
    return last


def _number(session: Session, *, waits: bool) -> None:
    """Number the notices that have none; not waiting, leave it to who is at it."""
    unnumbered = ChangeRow.number.is_(None)
    # By the column of their index: in any other order PostgreSQL may read all that have a number too.
    first = select(ChangeRow.study_key).where(unnumbered).order_by(ChangeRow.study_key).limit(1)
    while session.scalar(first) is not None:
        lock = "pg_advisory_xact_lock" if waits else "pg_try_advisory_xact_lock"
        if session.scalar(text(f"SELECT {lock}(:lock)"), {"lock": LOCK}) is False:
            return
        some = select(ChangeRow.id).where(unnumbered).order_by(ChangeRow.id).limit(BATCH).scalar_subquery()
        session.execute(update(ChangeRow).where(ChangeRow.id.in_(some)).values(number=NUMBERS.next_value()))

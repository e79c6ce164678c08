"""Cursors of the list: where a page ends, sealed, so that only what was handed out comes back.

A cursor holds numbers and times of one study's place, no key and no identity; `service.store.seals` signs it.
"""

import hashlib
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from service.errors import StaleCursorError
from service.store import seals
from service.store.order import WorklistQuery

LIFE = timedelta(hours=12)  # whoever turns pages longer than a shift starts again
USE = "worklist"
TIME = "us"  # how a time is told from a number
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place between two studies.

    Attributes
    ----------
    at : datetime
        Time by which who is overdue was decided.
    backwards : bool
        The page before the place is meant.
    segment : int
        Number of the segment, of those of the query.
    place : tuple
        Values of the segment's keys.
    ranked : int
        Ranked studies before the place.
    total : int
        Studies of the query, as the first page counted them.
    """

    at: datetime
    backwards: bool
    segment: int
    place: tuple[Any, ...]
    ranked: int
    total: int


def seal(session: Session, cursor: Cursor, query: WorklistQuery, longest_unread_s: float) -> str:
    """Return a cursor as text that nobody else can make."""
    return seals.seal(
        session,
        USE,
        [
            _digest(query, longest_unread_s),
            _count(cursor.at),
            cursor.backwards,
            cursor.segment,
            [{TIME: _count(value)} if isinstance(value, datetime) else value for value in cursor.place],
            cursor.ranked,
            cursor.total,
        ],
    )


def unseal(
    session: Session, text: str, query: WorklistQuery, longest_unread_s: float, now: datetime
) -> Cursor:
    """Return what `seal` was given.

    Raises
    ------
    ForgedCursorError
        If it was not made here.
    StaleCursorError
        If it belongs to another query, or is too old.
    """
    digest, at, backwards, segment, place, ranked, total = seals.unseal(session, USE, text)
    if digest != _digest(query, longest_unread_s) or _time(at) < now - LIFE:
        raise StaleCursorError(StaleCursorError.__doc__)
    return Cursor(
        at=_time(at),
        backwards=backwards,
        segment=segment,
        place=tuple(_time(value[TIME]) if isinstance(value, dict) else value for value in place),
        ranked=ranked,
        total=total,
    )


def _digest(query: WorklistQuery, longest_unread_s: float) -> str:
    """Short digest of what decides a list's content and order."""
    return hashlib.sha256(repr((astuple(query), longest_unread_s)).encode()).hexdigest()[:16]


def _count(at: datetime) -> int:
    """Microseconds, in whole numbers: a float would lose the last ones."""
    return (at - _EPOCH) // _MICROSECOND


def _time(count: int) -> datetime:
    return _EPOCH + count * _MICROSECOND

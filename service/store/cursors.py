"""Cursors of the list: where a page ends, sealed, so that only what was handed out comes back.

A cursor is base64url of a JSON list and its HMAC-SHA256. It holds numbers and times of one study's place, no
key and no identity. The secret is made at its first use and kept in the database, for all machines of a site.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.errors import ForgedCursorError, StaleCursorError
from service.store.order import WorklistQuery
from service.store.tables import SecretRow

LIFE = timedelta(hours=12)  # whoever turns pages longer than a shift starts again
SECRET = "cursor"  # noqa: S105 - its name
SECRET_BYTES, SEAL_BYTES = 32, 16
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
    """

    at: datetime
    backwards: bool
    segment: int
    place: tuple[Any, ...]
    ranked: int


def seal(session: Session, cursor: Cursor, query: WorklistQuery, longest_unread_s: float) -> str:
    """Return a cursor as text that nobody else can make."""
    content = json.dumps(
        [
            _digest(query, longest_unread_s),
            _count(cursor.at),
            cursor.backwards,
            cursor.segment,
            [{TIME: _count(value)} if isinstance(value, datetime) else value for value in cursor.place],
            cursor.ranked,
        ],
        separators=(",", ":"),
    ).encode()
    return base64.urlsafe_b64encode(_sealed(_secret(session), content) + content).decode().rstrip("=")


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
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ForgedCursorError(ForgedCursorError.__doc__) from error
    content = sealed[SEAL_BYTES:]
    if not hmac.compare_digest(sealed[:SEAL_BYTES], _sealed(_secret(session), content)):
        raise ForgedCursorError(ForgedCursorError.__doc__)
    digest, at, backwards, segment, place, ranked = json.loads(content)
    if digest != _digest(query, longest_unread_s) or _time(at) < now - LIFE:
        raise StaleCursorError(StaleCursorError.__doc__)
    return Cursor(
        at=_time(at),
        backwards=backwards,
        segment=segment,
        place=tuple(_time(value[TIME]) if isinstance(value, dict) else value for value in place),
        ranked=ranked,
    )


def _digest(query: WorklistQuery, longest_unread_s: float) -> str:
    """Short digest of what decides a list's content and order."""
    return hashlib.sha256(repr((astuple(query), longest_unread_s)).encode()).hexdigest()[:16]


def _sealed(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, content, "sha256")[:SEAL_BYTES]


def _secret(session: Session) -> bytes:
    """Return the site's secret; make it where there is none, the first to do so winning."""
    found = session.scalar(select(SecretRow.value).where(SecretRow.name == SECRET))
    if found is None:
        made = insert(SecretRow).values(name=SECRET, value=secrets.token_bytes(SECRET_BYTES))
        session.execute(made.on_conflict_do_nothing())
        found = session.scalars(select(SecretRow.value).where(SecretRow.name == SECRET)).one()
    return found


def _count(at: datetime) -> int:
    """Microseconds, in whole numbers: a float would lose the last ones."""
    return (at - _EPOCH) // _MICROSECOND


def _time(count: int) -> datetime:
    return _EPOCH + count * _MICROSECOND

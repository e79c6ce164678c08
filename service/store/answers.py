"""Answers kept for a while, so that a request sent twice is done once.

The row is written in the transaction of what was asked for. Of two at the same time the second waits at the
primary key until the first has ended: it finds the answer where that committed, and does the work where not.
What was refused is not kept: it changed nothing, and may be asked again.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.errors import TriageError
from service.store.tables import AnswerRow

LIFE = timedelta(hours=24)
MOST_OF_A_CALLER = 10_000  # within `LIFE`
SWEPT_AT_ONCE = 100


class KeyReusedError(TriageError):
    """The idempotency key belongs to another request. Take a new key for every new request."""


class TooManyKeysError(TriageError):
    """Too many idempotency keys within a day. Send the requests without, or wait."""


def claim(session: Session, *, caller: str, key: str, request: str) -> dict[str, Any] | None:
    """Take a key for the request of this transaction, or return what it was answered before.

    Parameters
    ----------
    caller, key : str
        A key is known to its caller alone.
    request : str
        Hash of what was asked.

    Returns
    -------
    dict or None
        None where the request is new: do it, then `keep` its answer.

    Raises
    ------
    KeyReusedError
        If the key came with another request.
    TooManyKeysError
        If the caller has `MOST_OF_A_CALLER` keys already.
    """
    _sweep(session)
    is_new = session.scalar(
        insert(AnswerRow)
        .values(caller=caller, key=key, request=request, at=datetime.now(UTC))
        .on_conflict_do_nothing(index_elements=["caller", "key"])
        .returning(AnswerRow.key)
    )
    if is_new is not None:
        held = session.scalar(select(func.count()).select_from(AnswerRow).where(AnswerRow.caller == caller))
        if (held or 0) > MOST_OF_A_CALLER:
            raise TooManyKeysError(TooManyKeysError.__doc__)
        return None
    kept = session.scalars(select(AnswerRow).where(AnswerRow.caller == caller, AnswerRow.key == key)).one()
    if kept.request != request:
        raise KeyReusedError(KeyReusedError.__doc__)
    return kept.body


def keep(session: Session, *, caller: str, key: str, body: dict[str, Any]) -> None:
    """Store the answer of a request whose key was claimed in this transaction."""
    session.execute(
        update(AnswerRow).where(AnswerRow.caller == caller, AnswerRow.key == key).values(body=body)
    )


def _sweep(session: Session) -> None:
    """Let go of some answers whose life is over: two a request would do, so they never pile up."""
    over = (
        select(AnswerRow.caller, AnswerRow.key)
        .where(AnswerRow.at < datetime.now(UTC) - LIFE)
        .limit(SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
        .subquery()
    )
    session.execute(delete(AnswerRow).where(AnswerRow.caller == over.c.caller, AnswerRow.key == over.c.key))

"""The audit trail: append-only rows, each carrying the hash of the one before.

A changed, removed, inserted or moved row breaks the chain at its number. A cut tail leaves a whole chain, and
so does a chain that somebody computed anew, so heads are kept outside of the database: in a file of the
machine (`service.witness`) and at the site's audit repository. `verify` compares with them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from service.errors import TriageError
from service.store.tables import AuditRow

LOCK = 0x41_55_44_49_54  # "AUDIT": appends take turns until commit, so the chain has one order
BEFORE_FIRST = "0" * 64


class AuditBrokenError(TriageError):
    """The audit trail was changed from outside. Keep the database as it is; tell the security officer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that happened, as `append` takes it."""

    action: str
    actor: str
    study_key: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """Newest row of an intact trail.

    Attributes
    ----------
    number : int
        Rows in the trail.
    hash : str
        Hash of the newest row, hexadecimal.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def read(cls, written: str) -> "AuditHead":
        """Head as ``str`` writes it.

        Raises
        ------
        ValueError
            If it is something else.
        """
        number, _, digest = written.strip().partition(":")
        if not number.isdecimal() or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError("a head is NUMBER:HASH, as `vigil audit verify` prints it")
        return cls(number=int(number), hash=digest)


def append(session: Session, action: str, *, actor: str, study_key: str | None = None, **detail: Any) -> None:
    """Add one event in the caller's transaction.

    Parameters
    ----------
    session : Session
    action : str
        What happened, as ``noun.verb``: ``study.queued``.
    actor : str
        Role or person: ``node``, ``worker``, ``api``.
    study_key : str, optional
    **detail
        JSON values without identity.
    """
    append_all(session, [AuditEvent(action=action, actor=actor, study_key=study_key, detail=detail)])


def append_all(session: Session, events: Sequence[AuditEvent]) -> None:
    """Add some events in the caller's transaction, in their order."""
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    last = head(session)
    for event in events:
        row = AuditRow(
            number=last.number + 1,
            at=datetime.now(UTC),
            actor=event.actor,
            action=event.action,
            study_key=event.study_key,
            detail=dict(event.detail),
            previous=last.hash,
            hash="",
        )
        row.hash = _hash(row)
        session.add(row)
        last = AuditHead(number=row.number, hash=row.hash)
    session.flush()


def head(session: Session) -> AuditHead:
    """Newest row, as it says of itself."""
    last = session.execute(
        select(AuditRow.number, AuditRow.hash).order_by(AuditRow.number.desc()).limit(1)
    ).first()
    return AuditHead(number=last.number, hash=last.hash) if last else AuditHead(number=0, hash=BEFORE_FIRST)


def newest_at(session: Session, *, actor: str, action: str) -> datetime | None:
    """When somebody did something last."""
    at = session.scalar(
        select(AuditRow.at)
        .where(AuditRow.actor == actor, AuditRow.action == action)
        .order_by(AuditRow.at.desc())
        .limit(1)
    )
    return None if at is None else at.astimezone(UTC)


def holds(session: Session, kept: AuditHead) -> bool:
    """Whether the trail still has the row that was its head once. One look, however long the trail."""
    found = session.scalar(select(AuditRow.hash).where(AuditRow.number == kept.number))
    return kept.hash == (BEFORE_FIRST if kept.number == 0 else found)


def verify(session: Session, kept: Iterable[AuditHead] = ()) -> AuditHead:
    """Walk the whole trail and return its head.

    Parameters
    ----------
    session : Session
    kept : iterable of AuditHead
        Heads of the trail at earlier times, from elsewhere: without one a cut tail is not found.

    Raises
    ------
    AuditBrokenError
        Naming the first row that does not follow from the one before, or that is not what was kept.
    """
    expected = {one.number: one.hash for one in kept}
    number, previous = 0, BEFORE_FIRST
    query = select(AuditRow).order_by(AuditRow.number).execution_options(yield_per=1000)
    with closing(session.scalars(query)) as rows:
        for row in rows:
            number += 1
            if row.number != number or row.previous != previous or row.hash != _hash(row):
                raise AuditBrokenError(f"The audit trail breaks at row {number}. {AuditBrokenError.__doc__}")
            if expected.pop(number, row.hash) != row.hash:
                raise AuditBrokenError(
                    f"The audit trail has another row {number} than it had. {AuditBrokenError.__doc__}"
                )
            previous = row.hash
    expected.pop(0, None)
    if expected:
        raise AuditBrokenError(
            f"The audit trail ends at row {number}; it had row {max(expected)}. {AuditBrokenError.__doc__}"
        )
    return AuditHead(number=number, hash=previous)


def _hash(row: AuditRow) -> str:
    """SHA-256 over the row's canonical JSON and the previous hash."""
    content = [
        row.number,
        row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        row.actor,
        row.action,
        row.study_key,
        row.detail,
        row.previous,
    ]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()

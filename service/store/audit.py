"""The audit trail: append-only rows, each carrying the hash of the one before.

A changed, removed or inserted row breaks the chain at its number. A cut tail leaves a whole chain, so the
head (number and hash) is also a metric: keep it elsewhere and compare.
"""

import hashlib
import json
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
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    last = session.execute(
        select(AuditRow.number, AuditRow.hash).order_by(AuditRow.number.desc()).limit(1)
    ).first()
    number, previous = (last.number + 1, last.hash) if last else (1, BEFORE_FIRST)
    row = AuditRow(
        number=number,
        at=datetime.now(UTC),
        actor=actor,
        action=action,
        study_key=study_key,
        detail=detail,
        previous=previous,
        hash="",
    )
    row.hash = _hash(row)
    session.add(row)
    session.flush()


def verify(session: Session) -> AuditHead:
    """Walk the whole trail and return its head.

    Raises
    ------
    AuditBrokenError
        Naming the first row that does not follow from the one before.
    """
    number, previous = 0, BEFORE_FIRST
    query = select(AuditRow).order_by(AuditRow.number).execution_options(yield_per=1000)
    with closing(session.scalars(query)) as rows:
        for row in rows:
            number += 1
            if row.number != number or row.previous != previous or row.hash != _hash(row):
                raise AuditBrokenError(f"The audit trail breaks at row {number}. {AuditBrokenError.__doc__}")
            previous = row.hash
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

"""The audit trail, a page at a time, for who may read it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.tables import AuditRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the trail, without its detail."""

    number: int
    at: datetime
    actor: str
    action: str
    study_key: str | None
    previous: str
    hash: str


def entries(session: Session, *, before: int | None = None, limit: int) -> tuple[Entry, ...]:
    """Rows, newest first; only those with a smaller number than `before`."""
    query = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditRow.number < before)
    return tuple(_entry(row) for row in session.scalars(query))


def entry(session: Session, number: int) -> Entry | None:
    """One row; None where there is none."""
    row = session.get(AuditRow, number)
    return _entry(row) if row else None


def _entry(row: AuditRow) -> Entry:
    return Entry(
        number=row.number,
        at=row.at.astimezone(UTC),
        actor=row.actor,
        action=row.action,
        study_key=row.study_key,
        previous=row.previous,
        hash=row.hash,
    )

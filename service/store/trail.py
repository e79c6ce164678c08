"""Reading the audit trail: for a person with a filter, and for the audit repository in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store.paging import Page, Place, read_page
from service.store.tables import AuditExportRow, AuditRow

LOCK = 0x54_45_4C_4C  # "TELL": one process at a time tells the audit repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One row of the audit trail.

    Attributes
    ----------
    number : int
    at : datetime
    actor, action : str
    study_key : str or None
    detail : dict of str to JSON value
    previous, hash : str
        Of all rows before it, and of this one with them.
    """

    number: int
    at: datetime
    actor: str
    action: str
    study_key: str | None
    detail: dict[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailQuery:
    """Which rows to read; what is None does not matter.

    Attributes
    ----------
    actor, study_key : str or None
        Exactly.
    action : str or None
        A whole action, or its noun: ``person`` finds ``person.signed_in``.
    since, until : datetime or None
        Aware.
    before : int or None
        Only rows with a lower number: the next page.
    """

    actor: str | None = None
    action: str | None = None
    study_key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


def read(session: Session, query: TrailQuery, *, limit: int) -> list[Told]:
    """Rows that a query asks for, newest first."""
    newest = select(AuditRow).where(*_wanted(query)).order_by(AuditRow.number.desc()).limit(limit)
    return [_told(row) for row in session.scalars(newest)]


def listed(session: Session, place: Place, query: TrailQuery) -> Page[Told]:
    """Rows that a query asks for, newest first, as a page of a listing.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    asked = select(AuditRow, AuditRow.number).where(*_wanted(query))
    page = read_page(session, asked, [AuditRow.number], place)
    items = tuple(_told(row) for row, _ in page.items)
    return Page(items=items, next=page.next, previous=page.previous)


def one(session: Session, number: int) -> Told | None:
    """One row; None where there is none."""
    row = session.get(AuditRow, number)
    return _told(row) if row else None


def claim(session: Session, name: str) -> int | None:
    """Number of the newest row that a receiver has; None while another process tells it.

    Whoever gets it keeps it until the transaction ends.
    """
    if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
        return None
    session.execute(insert(AuditExportRow).values(name=name).on_conflict_do_nothing())
    return session.scalar(select(AuditExportRow.number).where(AuditExportRow.name == name))


def after(session: Session, number: int, *, limit: int) -> Sequence[Told]:
    """Rows after a number, oldest first."""
    next_rows = select(AuditRow).where(AuditRow.number > number).order_by(AuditRow.number).limit(limit)
    return [_told(row) for row in session.scalars(next_rows)]


def arrived(session: Session, name: str, number: int) -> None:
    """Note that a receiver has all rows up to a number."""
    session.execute(
        update(AuditExportRow)
        .where(AuditExportRow.name == name)
        .values(number=number, told_at=datetime.now(UTC))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """What a receiver has not got yet.

    Attributes
    ----------
    rows : int
    age_s : float
        Of the oldest of them; 0 where there is none.
    """

    rows: int
    age_s: float


def lag(session: Session, name: str) -> Lag:
    """How far a receiver is behind the trail."""
    number = session.scalar(select(AuditExportRow.number).where(AuditExportRow.name == name)) or 0
    rows, oldest = session.execute(
        select(func.count(), func.min(AuditRow.at)).where(AuditRow.number > number)
    ).one()
    return Lag(rows=rows, age_s=(datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0)


def _wanted(query: TrailQuery) -> list[ColumnElement[bool]]:
    """Build the conditions of a query."""
    wanted: list[ColumnElement[bool]] = []
    if query.actor is not None:
        wanted.append(AuditRow.actor == query.actor)
    if query.action is not None:
        named = AuditRow.action == query.action
        wanted.append(named | AuditRow.action.startswith(f"{query.action}.", autoescape=True))
    if query.study_key is not None:
        wanted.append(AuditRow.study_key == query.study_key)
    if query.since is not None:
        wanted.append(AuditRow.at >= query.since)
    if query.until is not None:
        wanted.append(AuditRow.at < query.until)
    if query.before is not None:
        wanted.append(AuditRow.number < query.before)
    return wanted


def _told(row: AuditRow) -> Told:
    return Told(
        number=row.number,
        at=row.at.astimezone(UTC),
        actor=row.actor,
        action=row.action,
        study_key=row.study_key,
        detail=row.detail,
        previous=row.previous,
        hash=row.hash,
    )

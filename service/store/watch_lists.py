"""Watches over scanners as people see them, and the end of a false alarm."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.drift import GroupWatch
from service.errors import TriageError
from service.store.tables import GroupWatchRow
from service.store.watches import conditions


class UnknownGroupError(TriageError):
    """No such group is withdrawn now. `vigil drift list` shows the groups and their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedWatch:
    """One watch as people see it.

    Attributes
    ----------
    id : int
    group, group_key : str
        The scanner in words, and as it is named everywhere.
    model_sha256, calibration_sha256 : str
    seen : int
        Studies watched.
    evidence : float
        Share of what raises an alarm; 1 does.
    begun_at : datetime
    alarmed_at : datetime or None
        Since when the percentile is withdrawn.
    alarms : tuple of str
        Numbers that raised the alarm.
    studies_since_change : int
        From the estimated change to now; 0 without an alarm.
    """

    id: int
    group: str
    group_key: str
    model_sha256: str
    calibration_sha256: str
    seen: int
    evidence: float
    begun_at: datetime
    alarmed_at: datetime | None
    alarms: tuple[str, ...]
    studies_since_change: int


def listed(session: Session) -> tuple[ListedWatch, ...]:
    """Every watch: withdrawn ones first, then the newest model and calibration."""
    rows = session.scalars(
        select(GroupWatchRow).order_by(GroupWatchRow.alarmed_at.is_(None), GroupWatchRow.id.desc())
    )
    return tuple(_listed(row) for row in rows)


def under(
    session: Session, model_sha256: str, calibration_sha256: str | None, *, limit: int
) -> tuple[ListedWatch, ...]:
    """Watches of what is in force, one a scanner: withdrawn ones first, then the busiest."""
    rows = session.scalars(
        select(GroupWatchRow)
        .where(*conditions(model_sha256, calibration_sha256))
        .order_by(GroupWatchRow.alarmed_at.is_(None), GroupWatchRow.seen.desc(), GroupWatchRow.id)
        .limit(limit)
    )
    return tuple(_listed(row) for row in rows)


def dismiss(session: Session, watch_id: int) -> ListedWatch:
    """Give a percentile back after a false alarm; the watch begins anew, from the studies to come.

    Not from its reference: those it was compared with raised the alarm.

    Returns
    -------
    ListedWatch
        As it was.

    Raises
    ------
    UnknownGroupError
        If there is no such watch, or its percentile is not withdrawn.
    """
    row = session.scalar(select(GroupWatchRow).where(GroupWatchRow.id == watch_id).with_for_update())
    if row is None or row.alarmed_at is None:
        raise UnknownGroupError(UnknownGroupError.__doc__)
    before = _listed(row)
    state = GroupWatch.model_validate(row.state)
    anew = GroupWatch.begin(state.group, state.calibration_sha256, dict.fromkeys(state.watches, ()))
    row.state = anew.model_dump(mode="json")
    row.alarmed_at, row.alarms, row.changed_number = None, [], None
    row.turns += 1
    session.flush()
    return before


def _listed(row: GroupWatchRow) -> ListedWatch:
    state = GroupWatch.model_validate(row.state)
    since = 0 if row.changed_number is None else row.seen - row.changed_number + 1
    return ListedWatch(
        id=row.id,
        group=state.group,
        group_key=row.group_key,
        model_sha256=row.model_sha256,
        calibration_sha256=row.calibration_sha256,
        seen=row.seen,
        evidence=state.evidence,
        begun_at=row.begun_at.astimezone(UTC),
        alarmed_at=row.alarmed_at.astimezone(UTC) if row.alarmed_at else None,
        alarms=tuple(row.alarms),
        studies_since_change=since,
    )

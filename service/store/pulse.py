"""Whether the service lives: what the head of a page tells, in a few short queries."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.store import calibrations, watches
from service.store.census import live_workers
from service.store.tables import ScoreRow, StudyRow
from service.study import Pool, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """State of the service.

    Attributes
    ----------
    workers : int
        Worker processes with a fresh heartbeat that score.
    queued : int
        Studies that wait for a worker or are with one.
    oldest_at : datetime or None
        Since when the longest of them waits.
    received_at : datetime or None
        When the newest study began to arrive.
    withdrawn : int
        Scanners whose studies have no percentile any more, for their images have changed.
    """

    workers: int
    queued: int
    oldest_at: datetime | None
    received_at: datetime | None
    withdrawn: int = 0


def take_pulse(session: Session, *, stalled_s: float, model_sha256: str | None = None) -> Pulse:
    """State of the service now.

    Parameters
    ----------
    session : Session
    stalled_s : float
        Seconds without a heartbeat after which a worker counts as gone.
    model_sha256 : str, optional
        Of the model in service.
    """
    withdrawn = 0
    if model_sha256 is not None:
        sha256 = calibrations.sha256_in_force(session, model_sha256)
        withdrawn = len(watches.withdrawn(session, model_sha256, sha256).groups)
    queued, oldest_at = session.execute(
        select(func.count(), func.min(ScoreRow.run_at)).where(ScoreRow.state == State.QUEUED)
    ).one()
    received_at = session.scalar(select(StudyRow.received_at).order_by(StudyRow.id.desc()).limit(1))
    return Pulse(
        workers=live_workers(session, stalled_s=stalled_s).of(Pool.INFER),
        queued=queued,
        oldest_at=oldest_at.astimezone(UTC) if oldest_at else None,
        received_at=received_at.astimezone(UTC) if received_at else None,
        withdrawn=withdrawn,
    )

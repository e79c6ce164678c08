"""A state change into the outbox and its messages into the queue, in the caller's transaction (I5)."""

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from dicom_node.channel import Event
from service import engine
from service.engine import Pool
from service.store import outbox, reports, retractions
from service.store.reports import DriftAlarm, Report, Told
from service.study import Priority, State

OF_STATE = {
    State.SCORED: Event.SCORED,
    State.NOT_ASSESSABLE: Event.NOT_ASSESSABLE,
    State.FAILED: Event.FAILED,
}


def announce_end(session: Session, score_id: int) -> None:
    """Tell that a study was scored, is not assessable or failed; nothing where it has not ended.

    Where it ended without results, and archives have earlier ones, a worker is to take those back.
    """
    session.flush()
    priority = retractions.waiting(session).get(score_id)
    if priority is not None:
        engine.enqueue(session, Pool.INFER, score_id, priority=priority)
    if not outbox.has_channel(session):
        return
    report = reports.report_of(session, score_id)
    if report is not None and report.state in OF_STATE:
        happened_at = report.ended_at or datetime.now(UTC)
        _announce(session, OF_STATE[report.state], Told(report=report, happened_at=happened_at))


def announce_superseded(session: Session, report: Report) -> None:
    """Tell that what was told of a study holds no longer: images came after."""
    _announce(session, Event.SUPERSEDED, Told(report=report, happened_at=datetime.now(UTC)))


def announce_delivery(session: Session, score_id: int, *, kind: str, destination: str) -> None:
    """Tell that a result reached a destination."""
    report = reports.report_of(session, score_id) if outbox.has_channel(session) else None
    if report is not None:
        told = Told(report=report, happened_at=datetime.now(UTC), kind=kind, destination=destination)
        _announce(session, Event.DELIVERED, told)


def announce_drift(session: Session, alarm: DriftAlarm) -> None:
    """Tell that the images of a scanner have changed; the message is about no study."""
    written = outbox.tell(
        session,
        Event.DRIFTED.value,
        lane=f"scanner {alarm.watch_id}",
        mark=alarm.happened_at.isoformat(),
        content=alarm.content(),
        priority=Priority.URGENT,
    )
    for row_id in written:
        engine.enqueue(session, Pool.MESSAGE, row_id, priority=Priority.URGENT)


def _announce(session: Session, event: Event, told: Told) -> None:
    report = told.report
    written = outbox.tell(
        session,
        event.value,
        lane=report.study_key,
        mark=told.mark(),
        content=told.content(),
        priority=report.priority,
    )
    for row_id in written:
        engine.enqueue(session, Pool.MESSAGE, row_id, priority=report.priority)

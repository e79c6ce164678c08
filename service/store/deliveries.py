"""Deliveries: what an attempt finds, and what it leaves. One row per result and destination."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import DeliveryStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryJob:
    """One attempt to bring one result to one destination."""

    delivery_id: int
    study_key: str
    kind: str
    path: str
    destination: str
    attempt: int
    priority: int


def begin(session: Session, delivery_id: int) -> DeliveryJob | None:
    """Count one attempt and return what to send; None where the delivery has ended."""
    delivery = session.scalar(select(DeliveryRow).where(DeliveryRow.id == delivery_id).with_for_update())
    if delivery is None or delivery.status is not DeliveryStatus.WAITING:
        return None
    delivery.attempts += 1
    return _job(delivery)


def find(session: Session, delivery_id: int) -> DeliveryJob | None:
    """Return what `begin` returned, without counting; None where the delivery has ended."""
    delivery = session.get(DeliveryRow, delivery_id)
    return _job(delivery) if delivery and delivery.status is DeliveryStatus.WAITING else None


def _job(delivery: DeliveryRow) -> DeliveryJob:
    study = delivery.result.score.revision.study
    return DeliveryJob(
        delivery_id=delivery.id,
        study_key=study.key,
        kind=delivery.result.kind,
        path=delivery.result.path,
        destination=delivery.destination,
        attempt=delivery.attempts,
        priority=study.priority,
    )


def record(
    session: Session,
    delivery_id: int,
    *,
    status: DeliveryStatus,
    answer: int | None = None,
    error: str = "",
    next_attempt_at: datetime | None = None,
) -> bool:
    """Store how an attempt ended; False where the delivery had ended before."""
    delivery = session.scalars(
        select(DeliveryRow).where(DeliveryRow.id == delivery_id).with_for_update()
    ).one()
    if delivery.status is not DeliveryStatus.WAITING:
        return False
    delivery.status, delivery.answer, delivery.error = status, answer, error
    if next_attempt_at is not None:
        delivery.next_attempt_at = next_attempt_at
    if status is not DeliveryStatus.WAITING:
        delivery.ended_at = datetime.now(UTC)
    return True


def waiting(session: Session) -> dict[int, tuple[int, datetime]]:
    """Deliveries that a job should be working on, with priority and the time of their next attempt."""
    rows = session.execute(
        select(DeliveryRow.id, StudyRow.priority, DeliveryRow.next_attempt_at)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(DeliveryRow.status == DeliveryStatus.WAITING)
    )
    return {delivery_id: (priority, due) for delivery_id, priority, due in rows}

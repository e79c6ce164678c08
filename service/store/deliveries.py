"""Deliveries: what an attempt finds, and what it leaves. One row per result and destination.

A delivery is open while it waits to be sent, and after that while it waits to be confirmed: *delivered*
without an end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from dicom_node.services.commitment import Reference
from service.store import audit
from service.store.supersession import holds
from service.store.tables import DeliveryRow, ParkedDestinationRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import DeliveryStatus

ACTOR = "inference"  # who finds that a score counts again


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryJob:
    """One step to bring one result to one destination.

    Attributes
    ----------
    status : DeliveryStatus
        *Waiting*: to be sent. *Delivered*: to be confirmed.
    attempt, confirm_attempts : int
        How often it was sent, and how often the destination was asked for it.
    transaction_uid : str or None
        Commitment request that is open.
    asked_at : datetime or None
        When it went out.
    fallback : str or None
        Code of why another way than the wanted one was taken.
    """

    delivery_id: int
    study_key: str
    score_id: int
    kind: str
    path: str
    sha256: str
    bytes: int
    destination: str
    attempt: int
    priority: int
    status: DeliveryStatus
    sop_instance_uid: str
    confirm_attempts: int
    transaction_uid: str | None
    asked_at: datetime | None
    fallback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """Results that one destination has not got.

    Attributes
    ----------
    destination : str
    status : DeliveryStatus
        *Waiting* or *undelivered*.
    count : int
    oldest_s : float
        Since when the oldest of them could have been there.
    """

    destination: str
    status: DeliveryStatus
    count: int
    oldest_s: float


def outstanding(session: Session) -> tuple[Outstanding, ...]:
    """What destinations have not got, by destination and status.

    What was given up counts until a person waives it: of a study that is gone nothing can be sent again.
    """
    age_s = func.extract("epoch", func.max(func.now() - ScoreRow.ended_at))
    rows = session.execute(
        select(DeliveryRow.destination, DeliveryRow.status, func.count(), func.coalesce(age_s, 0))
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            or_(
                DeliveryRow.status == DeliveryStatus.WAITING,
                and_(DeliveryRow.status == DeliveryStatus.UNDELIVERED, StudyRow.waived.is_(None)),
            )
        )
        .group_by(DeliveryRow.destination, DeliveryRow.status)
        .order_by(DeliveryRow.destination, DeliveryRow.status)
    )
    return tuple(
        Outstanding(destination=destination, status=status, count=count, oldest_s=float(oldest))
        for destination, status, count, oldest in rows
    )


def begin(session: Session, delivery_id: int) -> DeliveryJob | None:
    """Count one attempt and return what to send; None where there is nothing to send any more.

    A result of a score that counts no longer ends here: what is returned is *withdrawn*, and not to be sent.
    """
    delivery = session.scalar(select(DeliveryRow).where(DeliveryRow.id == delivery_id).with_for_update())
    if delivery is None or delivery.status is not DeliveryStatus.WAITING:
        return None
    if not holds(session, delivery.result):
        withdraw(delivery)
        return _job(delivery)
    delivery.attempts += 1
    delivery.began_at = delivery.began_at or datetime.now(UTC)
    return _job(delivery)


def withdraw(delivery: DeliveryRow) -> None:
    """End a delivery that would bring an outdated result after a newer one."""
    delivery.status, delivery.ended_at = DeliveryStatus.WITHDRAWN, datetime.now(UTC)


def take_up(session: Session, score_id: int, *, study_key: str) -> None:
    """Let the results of a score that counts again wait as before; the reaper gives them their jobs."""
    found = [
        delivery
        for delivery in locked_of_score(session, score_id, None)
        if delivery.status is DeliveryStatus.WITHDRAWN
    ]
    for delivery in found:
        delivery.status, delivery.ended_at, delivery.attempts = DeliveryStatus.WAITING, None, 0
        delivery.next_attempt_at = datetime.now(UTC)
    if found:
        audit.append(session, "result.taken_up", actor=ACTOR, study_key=study_key, deliveries=len(found))


def find(session: Session, delivery_id: int) -> DeliveryJob | None:
    """Return what `begin` returned, without counting; None where the delivery has ended."""
    delivery = session.get(DeliveryRow, delivery_id)
    return _job(delivery) if delivery and _is_open(delivery) else None


def is_parked(session: Session, destination: str) -> bool:
    """Whether a person put a destination aside."""
    return session.get(ParkedDestinationRow, destination) is not None


def _is_open(delivery: DeliveryRow) -> bool:
    return delivery.status is DeliveryStatus.WAITING or (
        delivery.status is DeliveryStatus.DELIVERED and delivery.ended_at is None
    )


def _open() -> ColumnElement[bool]:
    return or_(
        DeliveryRow.status == DeliveryStatus.WAITING,
        and_(DeliveryRow.status == DeliveryStatus.DELIVERED, DeliveryRow.ended_at.is_(None)),
    )


def _job(delivery: DeliveryRow) -> DeliveryJob:
    study = delivery.result.score.revision.study
    return DeliveryJob(
        delivery_id=delivery.id,
        study_key=study.key,
        score_id=delivery.result.score_id,
        kind=delivery.result.kind,
        path=delivery.result.path,
        sha256=delivery.result.sha256,
        bytes=delivery.result.bytes,
        destination=delivery.destination,
        attempt=delivery.attempts,
        priority=study.priority,
        status=delivery.status,
        sop_instance_uid=delivery.result.sop_instance_uid,
        confirm_attempts=delivery.confirm_attempts,
        transaction_uid=delivery.transaction_uid,
        asked_at=delivery.asked_at,
        fallback=delivery.fallback,
    )


def record(
    session: Session,
    delivery_id: int,
    *,
    status: DeliveryStatus,
    answer: int | None = None,
    error: str = "",
    fallback: str | None = None,
    next_attempt_at: datetime | None = None,
    is_over: bool = True,
    seconds: float = 0.0,
) -> bool:
    """Store how an attempt to send ended; False where another had ended it before.

    Parameters
    ----------
    fallback : str, optional
        Code of why the destination will not have it.
    is_over : bool
        False for a *delivered* result that is still to be confirmed.
    seconds : float
        What the attempt took.
    """
    delivery = _locked(session, delivery_id)
    if delivery.status is not DeliveryStatus.WAITING:
        return False
    delivery.seconds += seconds
    if status is DeliveryStatus.DELIVERED:
        delivery.delivered_at = datetime.now(UTC)
    delivery.status, delivery.answer, delivery.error = status, answer, error
    delivery.fallback = fallback or delivery.fallback
    if next_attempt_at is not None:
        delivery.next_attempt_at = next_attempt_at
    if status is not DeliveryStatus.WAITING and is_over:
        delivery.ended_at = datetime.now(UTC)
    return True


def claim_for_commitment(
    session: Session, delivery_id: int, *, transaction_uid: str, now: datetime
) -> list[Reference]:
    """Put every result of the same score that its destination has, and nobody asks about, into one request.

    Returns
    -------
    list of Reference
        Empty where this delivery is asked about already.
    """
    own = _locked(session, delivery_id)
    if not _is_to_be_confirmed(own) or own.transaction_uid is not None:
        return []
    rows = session.scalars(
        select(DeliveryRow)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .where(
            ResultRow.score_id == own.result.score_id,
            DeliveryRow.destination == own.destination,
            DeliveryRow.status == DeliveryStatus.DELIVERED,
            DeliveryRow.ended_at.is_(None),
            DeliveryRow.transaction_uid.is_(None),
            DeliveryRow.fallback.is_(None),
        )
        .order_by(DeliveryRow.id)
        .with_for_update(of=DeliveryRow, skip_locked=True)
    ).all()
    for row in rows:
        row.transaction_uid, row.asked_at = transaction_uid, now
    return [
        Reference(sop_class_uid=row.result.sop_class_uid, sop_instance_uid=row.result.sop_instance_uid)
        for row in rows
    ]


def give_up_commitment(session: Session, transaction_uid: str, *, fallback: str | None) -> None:
    """Let go of a commitment request: with a code for good, without one to be asked again."""
    rows = session.scalars(
        select(DeliveryRow).where(DeliveryRow.transaction_uid == transaction_uid).with_for_update()
    )
    for row in rows:
        row.transaction_uid, row.asked_at = None, None
        row.fallback = fallback or row.fallback


def postpone(session: Session, delivery_id: int, due: datetime) -> None:
    """Count one more attempt to confirm, and say when the next one is due."""
    delivery = _locked(session, delivery_id)
    if _is_to_be_confirmed(delivery):
        delivery.confirm_attempts += 1
        delivery.next_attempt_at = due


def confirm(
    session: Session,
    delivery_id: int,
    *,
    status: DeliveryStatus,
    confirmed_by: str | None = None,
    fallback: str | None = None,
    error: str = "",
) -> bool:
    """Store how the confirmation ended; False where it had ended before.

    Parameters
    ----------
    status : DeliveryStatus
        *Stored*; *delivered*, for good, where the destination will not say; *waiting*, to be sent again;
        *undelivered*, for a person.
    """
    delivery = _locked(session, delivery_id)
    if not _is_to_be_confirmed(delivery):
        return False
    delivery.status, delivery.confirmed_by, delivery.error = status, confirmed_by, error
    delivery.fallback = fallback or delivery.fallback
    delivery.transaction_uid, delivery.asked_at, delivery.confirm_attempts = None, None, 0
    if status is not DeliveryStatus.WAITING:
        delivery.ended_at = datetime.now(UTC)
    return True


def locked_of(session: Session, study: StudyRow, status: DeliveryStatus) -> Sequence[DeliveryRow]:
    """Deliveries of a study that have a status, for this transaction alone."""
    return session.scalars(
        select(DeliveryRow)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(RevisionRow.study_id == study.id, DeliveryRow.status == status)
        .with_for_update(of=DeliveryRow)
    ).all()


def locked_of_score(session: Session, score_id: int, destination: str | None) -> Sequence[DeliveryRow]:
    """Deliveries of the results of a score, to one destination or to all, for this transaction alone."""
    only = [] if destination is None else [DeliveryRow.destination == destination]
    return session.scalars(
        select(DeliveryRow)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .where(ResultRow.score_id == score_id, *only)
        .order_by(DeliveryRow.id)
        .with_for_update(of=DeliveryRow)
    ).all()


def _locked(session: Session, delivery_id: int) -> DeliveryRow:
    return session.scalars(select(DeliveryRow).where(DeliveryRow.id == delivery_id).with_for_update()).one()


def _is_to_be_confirmed(delivery: DeliveryRow) -> bool:
    return delivery.status is DeliveryStatus.DELIVERED and delivery.ended_at is None


def waiting(session: Session, *, destination: str | None = None) -> dict[int, tuple[int, datetime]]:
    """Deliveries that a job should be working on, with priority and the time of their next attempt.

    None to a parked destination.

    Parameters
    ----------
    destination : str, optional
        Only those to it.
    """
    parked = select(ParkedDestinationRow.name)
    only = [] if destination is None else [DeliveryRow.destination == destination]
    rows = session.execute(
        select(DeliveryRow.id, StudyRow.priority, DeliveryRow.next_attempt_at)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(_open(), DeliveryRow.destination.not_in(parked), *only)
    )
    return {delivery_id: (priority, due) for delivery_id, priority, due in rows}

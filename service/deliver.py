"""One result to one destination: confirmed, retried later, or left to a person."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from dicom_node.delivery import Destination
from dicom_node.errors import DeliveryError, DestinationRefusedError, SopClassRefusedError
from dicom_node.peers import Confirm
from dicom_node.services.commitment import Mailbox
from service import announce, engine
from service.confirm import SETTLE_S, Confirmation
from service.engine import Pool
from service.errors import Answer, StorageError, answer_to
from service.meters import DeliveryMeters
from service.store import Store, audit, deliveries
from service.store.deliveries import DeliveryJob
from service.store.objects import LocalObjects
from service.study import SOP_CLASS_REFUSED, DeliveryStatus
from service.traces import NO_TRACES, Traces
from service.turns import AT_ONCE, SPARE, Errand, Turns, pause_s

ACTOR = "delivery"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Brings results to destinations.

    Attributes
    ----------
    store : Store
    objects : LocalObjects
        Where result objects are.
    destinations : mapping of str to Destination
        By the name in the peers file.
    attempts : int
        Attempts before a delivery is left to a person.
    mailbox : Mailbox
        Where commitment reports arrive.
    meters : DeliveryMeters
    traces : Traces
    """

    store: Store
    objects: LocalObjects
    destinations: Mapping[str, Destination]
    attempts: int
    mailbox: Mailbox
    meters: DeliveryMeters = field(default_factory=DeliveryMeters)
    traces: Traces = NO_TRACES
    _turns: Turns = field(init=False, repr=False)

    def __post_init__(self) -> None:
        turns = Turns(store=self.store, pool=Pool.DELIVER, attempt=self._attempt, failed=self.failed)
        object.__setattr__(self, "_turns", turns)  # as a frozen value sets what follows from the rest

    @property
    def slots(self) -> int:
        """Deliveries to run at once: where every destination but one hangs, that one has its places."""
        return AT_ONCE * (len(self.destinations) + SPARE)

    def run(self, delivery_id: int) -> None:
        """Take the next step of a delivery, to send it or to confirm it; harmless where it has ended.

        Raises
        ------
        DeliveryError
            As the destination answered; hand it to `failed`.
        """
        with self.store.transaction() as session:
            waiting = deliveries.find(session, delivery_id)
            if waiting is None or deliveries.is_parked(session, waiting.destination):
                return  # letting a destination go makes its jobs anew
        is_to_send = waiting.status is DeliveryStatus.WAITING

        def step() -> None:
            if is_to_send:
                self._attempt(delivery_id)
            else:
                self._confirmation().step(waiting, self.destinations.get(waiting.destination))

        self._turns.run(
            Errand(
                row_id=delivery_id,
                priority=waiting.priority,
                destination=waiting.destination,
                step=step,
                takes_along=is_to_send,
            )
        )

    def _attempt(self, delivery_id: int) -> None:
        with self.store.transaction() as session:
            job = deliveries.begin(session, delivery_id)
            if job is not None and job.status is DeliveryStatus.WITHDRAWN:
                audit.append(session, "result.withdrawn", actor=ACTOR, study_key=job.study_key, **_told(job))
        if job is None or job.status is DeliveryStatus.WITHDRAWN:
            return
        if job.attempt > self.attempts:
            raise DestinationRefusedError("Every attempt ended the delivery process.")
        destination = self.destinations.get(job.destination)
        if destination is None:
            raise DestinationRefusedError(
                "The destination is no longer in the peers file. Add it, then resend."
            )
        begun = time.monotonic()
        with self.objects.local(job.path, job.sha256, job.bytes) as file:
            receipt = destination.send([file])[0]
        if receipt.error is not None:
            raise receipt.error
        spent_s = time.monotonic() - begun
        is_over = destination.confirm is Confirm.NONE
        due = datetime.now(UTC) + timedelta(seconds=SETTLE_S)
        with self.store.transaction() as session:
            if deliveries.record(
                session,
                delivery_id,
                status=DeliveryStatus.DELIVERED,
                answer=receipt.status,
                next_attempt_at=None if is_over else due,
                is_over=is_over,
                seconds=spent_s,
            ):
                audit.append(session, "result.delivered", actor=ACTOR, study_key=job.study_key, **_told(job))
                announce.announce_delivery(session, job.score_id, kind=job.kind, destination=job.destination)
                if not is_over:
                    engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority, not_before=due)
        log.info("result delivered", study=job.study_key, kind=job.kind, destination=job.destination)
        self.meters.delivered(job.destination, spent_s)
        self._trace(job, spent_s)

    def _confirmation(self) -> Confirmation:
        return Confirmation(
            store=self.store,
            objects=self.objects,
            mailbox=self.mailbox,
            attempts=self.attempts,
        )

    def failed(self, delivery_id: int, error: Exception) -> None:
        """Store a failed attempt: another one later, or the dead letter with its reason."""
        with self.store.transaction() as session:
            job = deliveries.find(session, delivery_id)
            if job is None:
                return
            if job.status is not DeliveryStatus.WAITING:  # a confirmation that failed unforeseen
                due = datetime.now(UTC) + timedelta(seconds=pause_s(job.confirm_attempts + 1))
                deliveries.postpone(session, delivery_id, due)
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority, not_before=due)
                log.warning("confirmation failed", study=job.study_key, exc_info=error)
                return
            is_over = answer_to(error) is Answer.ASK or job.attempt >= self.attempts
            due = datetime.now(UTC) + timedelta(seconds=pause_s(job.attempt))
            status = DeliveryStatus.UNDELIVERED if is_over else DeliveryStatus.WAITING
            is_recorded = deliveries.record(
                session,
                delivery_id,
                status=status,
                answer=getattr(error, "status", None),
                error=_message(error),
                fallback=SOP_CLASS_REFUSED if isinstance(error, SopClassRefusedError) else None,
                next_attempt_at=None if is_over else due,
            )
            if not is_recorded:  # a faster attempt has ended it
                return
            if is_over:
                audit.append(
                    session,
                    "result.undelivered",
                    actor=ACTOR,
                    study_key=job.study_key,
                    error=type(error).__name__,
                    **_told(job),
                )
            else:
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority, not_before=due)
        log.warning(
            "delivery failed",
            study=job.study_key,
            kind=job.kind,
            destination=job.destination,
            attempt=job.attempt,
            is_over=is_over,
            exc_info=error,
        )
        self.meters.failed(job.destination, is_over=is_over)
        self._trace(job, 0.0, error=type(error).__name__)

    def _trace(self, job: DeliveryJob, spent_s: float, *, error: str | None = None) -> None:
        ended = datetime.now(UTC)
        self.traces.tell(
            "deliver",
            job.study_key,
            begun=ended - timedelta(seconds=spent_s),
            ended=ended,
            error=error,
            kind=job.kind,
            destination=job.destination,
            attempt=job.attempt,
        )


def _message(error: Exception) -> str:
    """Words of our own errors, free of identity by design; of others the type."""
    return str(error) if isinstance(error, (DeliveryError, StorageError)) else type(error).__name__


def _told(job: DeliveryJob) -> dict[str, str | int]:
    """Return what the audit trail keeps of an attempt."""
    return {"kind": job.kind, "destination": job.destination, "attempt": job.attempt}

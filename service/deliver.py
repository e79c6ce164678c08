"""One result to one destination: confirmed, retried later, or left to a person."""

import heapq
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore, Lock

import structlog

from dicom_node.delivery import Destination
from dicom_node.errors import DeliveryError, DestinationRefusedError, SopClassRefusedError
from dicom_node.peers import Confirm
from dicom_node.services.commitment import Mailbox
from service import engine
from service.confirm import SETTLE_S, Confirmation
from service.engine import Pool
from service.errors import Answer, StorageError, answer_to
from service.store import Store, audit, deliveries
from service.store.deliveries import DeliveryJob
from service.store.objects import LocalObjects
from service.study import SOP_CLASS_REFUSED, DeliveryStatus

ACTOR = "delivery"
FIRST_PAUSE_S = 2.0
AT_ONCE = 2  # attempts at one destination: one that hangs leaves slots of the pool to the others
STEP_ASIDE_S = 3.0  # before a delivery asks again for its place at a destination that is full
ASIDE_GAP_S = 0.05  # between two that ask again, so that thousands for a dead destination load nobody
LONGEST_ASIDE_S = 300.0
MOST_ASIDE = 1000  # remembered for a destination; others come back by their time
SPARE = 4  # destinations that the peers file may gain before a restart gives them slots of their own
LONGEST_PAUSE_S = 1800.0

log = structlog.get_logger(__name__)


def pause_s(attempt: int) -> float:
    """Seconds to wait after the given attempt: doubling, from `FIRST_PAUSE_S` up to `LONGEST_PAUSE_S`."""
    return float(min(FIRST_PAUSE_S * 2 ** (min(attempt, 30) - 1), LONGEST_PAUSE_S))


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
    """

    store: Store
    objects: LocalObjects
    destinations: Mapping[str, Destination]
    attempts: int
    mailbox: Mailbox
    _places: dict[str, BoundedSemaphore] = field(default_factory=dict)
    _asked_again: dict[str, float] = field(default_factory=dict)  # when the last one to step aside will ask
    # Priority, id and time of those that stepped aside in this process: a hint, the queue has them all.
    _aside: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

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
        with self._lock:  # the peers file may bring destinations while we run
            place = self._places.setdefault(waiting.destination, BoundedSemaphore(AT_ONCE))
        if not place.acquire(blocking=False):
            self._step_aside(waiting)
            return
        try:
            if waiting.status is DeliveryStatus.WAITING:
                self._attempt(delivery_id)
                self._take_along(waiting.destination)
            else:
                self._confirmation().step(waiting, self.destinations.get(waiting.destination))
        finally:
            place.release()

    def _take_along(self, destination: str) -> None:
        """Send what stepped aside, while the destination takes it: a healthy one keeps nothing waiting."""
        while (delivery_id := self._next_aside(destination)) is not None:
            with self.store.transaction() as session:
                if deliveries.is_parked(session, destination):
                    return
            try:
                self._attempt(delivery_id)
            except (DeliveryError, StorageError) as error:
                with self.store.transaction() as session:
                    engine.cancel(session, Pool.DELIVER, delivery_id)  # it would ask before its pause is over
                self.failed(delivery_id, error)
                return

    def _next_aside(self, destination: str) -> int | None:
        """Most urgent of those that stepped aside and whose own time has not come."""
        with self._lock:
            waiting = self._aside.get(destination, [])
            while waiting:
                _, delivery_id, at = heapq.heappop(waiting)
                if at > time.monotonic():
                    return delivery_id
            return None

    def _step_aside(self, job: DeliveryJob) -> None:
        """Ask for a place again soon, one after the other, without counting an attempt."""
        now = time.monotonic()
        with self._lock:
            last = self._asked_again.get(job.destination, 0.0)
            at = min(max(last + ASIDE_GAP_S, now + STEP_ASIDE_S), now + LONGEST_ASIDE_S)
            self._asked_again[job.destination] = at
            aside = self._aside.setdefault(job.destination, [])
            if len(aside) < MOST_ASIDE:
                heapq.heappush(aside, (-job.priority, job.delivery_id, at))
        due = datetime.now(UTC) + timedelta(seconds=at - now)
        with self.store.transaction() as session:
            engine.enqueue(session, Pool.DELIVER, job.delivery_id, priority=job.priority, not_before=due)

    def _attempt(self, delivery_id: int) -> None:
        with self.store.transaction() as session:
            job = deliveries.begin(session, delivery_id)
        if job is None:
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
                seconds=time.monotonic() - begun,
            ):
                audit.append(session, "result.delivered", actor=ACTOR, study_key=job.study_key, **_told(job))
                if not is_over:
                    engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority, not_before=due)
        log.info("result delivered", study=job.study_key, kind=job.kind, destination=job.destination)

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


def _message(error: Exception) -> str:
    """Words of our own errors, free of identity by design; of others the type."""
    return str(error) if isinstance(error, (DeliveryError, StorageError)) else type(error).__name__


def _told(job: DeliveryJob) -> dict[str, str | int]:
    """Return what the audit trail keeps of an attempt."""
    return {"kind": job.kind, "destination": job.destination, "attempt": job.attempt}

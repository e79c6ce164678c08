"""From *delivered* to *stored*: the destination's own word that it keeps a result.

By storage commitment where the peer's profile says so; its report may come hours later, through the
receiver. Where it offers none, does not report in time, or reports a failure, it is asked by query. What it
does not hold is sent again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import structlog

from dicom_node.delivery import Destination
from dicom_node.errors import DestinationBusyError, DestinationRefusedError, UnreadableInstanceError
from dicom_node.peers import Confirm
from dicom_node.services.commitment import Mailbox
from service import engine
from service.engine import Pool
from service.errors import ObjectDamagedError, ObjectMissingError
from service.store import Store, audit, deliveries
from service.store.deliveries import DeliveryJob
from service.store.objects import LocalObjects
from service.study import (
    COMMITMENT_FAILED,
    COMMITMENT_NOT_OFFERED,
    COMMITMENT_TIMEOUT,
    CONFIRMATION_NOT_OFFERED,
    CONFIRMATION_TIMEOUT,
    MISSING_AT_DESTINATION,
    DeliveryStatus,
)

ACTOR = "delivery"
SETTLE_S = 1.0  # after success, so that a study's results share one request
FIRST_LOOK_S = 1.0
LONGEST_LOOK_S = 120.0
MISSES_BEFORE_RESEND = 4  # an archive's index may lag behind its answers
CLASS_CONFLICT = 0x0119  # another class holds this UID there (PS3.3 C.14.1.1): a person must look

COMMITMENT, QUERY = "commitment", "query"  # what made a result stored

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Confirms what was delivered.

    Attributes
    ----------
    store : Store
    objects : LocalObjects
        Where result objects are.
    mailbox : Mailbox
        Where commitment reports arrive.
    attempts : int
        How often a destination that does not answer is asked.
    """

    store: Store
    objects: LocalObjects
    mailbox: Mailbox
    attempts: int

    def step(self, job: DeliveryJob, destination: Destination | None) -> None:
        """Take the next step towards *stored*; the one after it is queued.

        Parameters
        ----------
        job : DeliveryJob
            Delivered, not confirmed.
        destination : Destination or None
            None where the peers file no longer names it.
        """
        if destination is None or destination.confirm is Confirm.NONE:
            self._end(job, DeliveryStatus.DELIVERED, fallback=CONFIRMATION_NOT_OFFERED)
            return
        try:
            if job.transaction_uid is not None:
                self._look(job, destination)
            elif destination.confirm is Confirm.COMMITMENT and job.fallback is None:
                self._ask(job, destination)
            else:
                self._query(job, destination)
        except DestinationBusyError as error:
            self._again(job, error)

    def _ask(self, job: DeliveryJob, destination: Destination) -> None:
        transaction_uid = f"2.25.{uuid4().int}"
        with self.store.transaction() as session:
            references = deliveries.claim_for_commitment(
                session, job.delivery_id, transaction_uid=transaction_uid, now=datetime.now(UTC)
            )
        if references:
            try:
                destination.request_commitment(transaction_uid, references, self.mailbox)
            except DestinationBusyError:
                with self.store.transaction() as session:
                    deliveries.give_up_commitment(session, transaction_uid, fallback=None)
                raise
            except DestinationRefusedError:
                with self.store.transaction() as session:
                    deliveries.give_up_commitment(session, transaction_uid, fallback=COMMITMENT_NOT_OFFERED)
                log.warning("destination offers no storage commitment", destination=job.destination)
            else:
                log.info("commitment requested", destination=job.destination, results=len(references))
        self._later(job, FIRST_LOOK_S)

    def _look(self, job: DeliveryJob, destination: Destination) -> None:
        report = self.mailbox.report(job.transaction_uid or "")
        if report is not None and report.holds(job.sop_instance_uid):
            self._end(job, DeliveryStatus.STORED, confirmed_by=COMMITMENT)
        elif report is not None:
            reason = report.reason(job.sop_instance_uid)
            if reason == CLASS_CONFLICT:
                self._end(
                    job,
                    DeliveryStatus.UNDELIVERED,
                    fallback=COMMITMENT_FAILED,
                    error="The destination holds an object of another class under this UID.",
                )
            else:
                self._query(job, destination, fallback=COMMITMENT_FAILED)
        elif (datetime.now(UTC) - (job.asked_at or datetime.now(UTC))).total_seconds() > (
            destination.commitment_s
        ):
            self._query(job, destination, fallback=COMMITMENT_TIMEOUT)
        else:
            self._later(job, _look_again_s(job.confirm_attempts))

    def _query(self, job: DeliveryJob, destination: Destination, *, fallback: str | None = None) -> None:
        try:
            with self.objects.local(job.path, job.sha256, job.bytes) as file:
                is_there = destination.holds(file)
        except DestinationRefusedError:
            self._end(job, DeliveryStatus.DELIVERED, fallback=CONFIRMATION_NOT_OFFERED)
            return
        except (UnreadableInstanceError, ObjectMissingError, ObjectDamagedError, OSError):
            self._end(
                job, DeliveryStatus.UNDELIVERED, error="The result's file cannot be read; replay the study."
            )
            return
        if is_there:
            self._end(job, DeliveryStatus.STORED, confirmed_by=QUERY, fallback=fallback)
        elif job.confirm_attempts + 1 >= MISSES_BEFORE_RESEND:
            self._end(job, DeliveryStatus.WAITING, fallback=fallback or MISSING_AT_DESTINATION)
        else:
            self._later(job, _look_again_s(job.confirm_attempts))

    def _again(self, job: DeliveryJob, error: DestinationBusyError) -> None:
        """Ask a destination that does not answer once more, up to the limit."""
        log.warning("confirmation waits", destination=job.destination, study=job.study_key, exc_info=error)
        if job.confirm_attempts + 1 >= self.attempts:
            self._end(job, DeliveryStatus.DELIVERED, fallback=CONFIRMATION_TIMEOUT, error=str(error))
        else:
            self._later(job, _look_again_s(job.confirm_attempts))

    def _later(self, job: DeliveryJob, pause_s: float) -> None:
        due = datetime.now(UTC) + timedelta(seconds=pause_s)
        with self.store.transaction() as session:
            deliveries.postpone(session, job.delivery_id, due)
            engine.enqueue(session, Pool.DELIVER, job.delivery_id, priority=job.priority, not_before=due)

    def _end(
        self,
        job: DeliveryJob,
        status: DeliveryStatus,
        *,
        confirmed_by: str | None = None,
        fallback: str | None = None,
        error: str = "",
    ) -> None:
        """Store where the confirmation ended, its audit row and, to send again, the job, together (I5)."""
        with self.store.transaction() as session:
            is_recorded = deliveries.confirm(
                session,
                job.delivery_id,
                status=status,
                confirmed_by=confirmed_by,
                fallback=fallback,
                error=error,
            )
            if not is_recorded:
                return
            if status is DeliveryStatus.WAITING:
                engine.enqueue(session, Pool.DELIVER, job.delivery_id, priority=job.priority)
            audit.append(
                session,
                {
                    DeliveryStatus.STORED: "result.stored",
                    DeliveryStatus.DELIVERED: "result.unconfirmed",
                    DeliveryStatus.WAITING: "result.missing",
                    DeliveryStatus.UNDELIVERED: "result.undelivered",
                }[status],
                actor=ACTOR,
                study_key=job.study_key,
                kind=job.kind,
                destination=job.destination,
                confirmed_by=confirmed_by,
                fallback=fallback,
            )
        log.info(
            "confirmation ended",
            study=job.study_key,
            kind=job.kind,
            destination=job.destination,
            status=status.value,
            confirmed_by=confirmed_by,
            fallback=fallback,
        )


def _look_again_s(attempts: int) -> float:
    """Seconds before the next look: doubling, from `FIRST_LOOK_S` up to `LONGEST_LOOK_S`."""
    return float(min(FIRST_LOOK_S * 2 ** min(attempts, 30), LONGEST_LOOK_S))

"""One result to one destination: confirmed, retried later, or left to a person."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from dicom_node.delivery import Destination
from dicom_node.errors import DeliveryError, DestinationRefusedError
from service import engine
from service.engine import Pool
from service.errors import Answer, answer_to
from service.store import Store, audit, jobs
from service.store.jobs import DeliveryJob
from service.study import DeliveryStatus

ACTOR = "delivery"
FIRST_PAUSE_S = 2.0
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
    results_folder : Path
    destinations : mapping of str to Destination
        By the name in the peers file.
    attempts : int
        Attempts before a delivery is left to a person.
    """

    store: Store
    results_folder: Path
    destinations: Mapping[str, Destination]
    attempts: int

    def run(self, delivery_id: int) -> None:
        """Make one attempt at a delivery; harmless where it has ended.

        Raises
        ------
        DeliveryError
            As the destination answered; hand it to `failed`.
        """
        with self.store.transaction() as session:
            job = jobs.begin_delivery(session, delivery_id)
        if job is None:
            return
        destination = self.destinations.get(job.destination)
        if destination is None:
            raise DestinationRefusedError(
                "The destination is no longer in the peers file. Add it, then resend."
            )
        receipt = destination.send([self.results_folder / job.path])[0]
        if receipt.error is not None:
            raise receipt.error
        with self.store.transaction() as session:
            if jobs.record_delivery(
                session, delivery_id, status=DeliveryStatus.DELIVERED, answer=receipt.status
            ):
                audit.append(session, "result.delivered", actor=ACTOR, study_key=job.study_key, **_told(job))
        log.info("result delivered", study=job.study_key, kind=job.kind, destination=job.destination)

    def failed(self, delivery_id: int, error: Exception) -> None:
        """Store a failed attempt: another one later, or the dead letter with its reason."""
        with self.store.transaction() as session:
            job = jobs.find_delivery(session, delivery_id)
            if job is None:
                return
            is_over = answer_to(error) is Answer.ASK or job.attempt >= self.attempts
            due = datetime.now(UTC) + timedelta(seconds=pause_s(job.attempt))
            status = DeliveryStatus.UNDELIVERED if is_over else DeliveryStatus.WAITING
            jobs.record_delivery(
                session,
                delivery_id,
                status=status,
                answer=getattr(error, "status", None),
                error=str(error) if isinstance(error, DeliveryError) else type(error).__name__,
                next_attempt_at=None if is_over else due,
            )
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


def _told(job: DeliveryJob) -> dict[str, str | int]:
    """Return what the audit trail keeps of an attempt."""
    return {"kind": job.kind, "destination": job.destination, "attempt": job.attempt}

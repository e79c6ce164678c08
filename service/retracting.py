"""Takes earlier results back where a later score of a study has none: it failed, or nothing could be read.

An archive keeps what an earlier score left: without a word the old percentile would stand as the only one.
Runs in the inference worker, the one process that makes DICOM objects. What is wanted stands in the rows, so
a kill changes nothing; what is made is a function of the rows and of an earlier report (I4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from dicom_node.errors import SpoolFullError, UnreadableInstanceError
from dicom_node.header import read_dataset
from dicom_node.results import Retraction, build_retraction
from models.errors import Reason
from service import __version__, engine, why
from service.engine import Pool
from service.errors import ObjectDamagedError, ObjectMissingError, StorageError
from service.store import Store, audit, retractions
from service.store.objects import ResultObjects
from service.store.retractions import RetractionJob
from service.study import State

ACTOR = "inference"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retracting:
    """Makes retractions.

    Attributes
    ----------
    store : Store
    objects : ResultObjects
        Where result objects are kept, those of earlier scores too.
    destinations : callable
        Kind of a result to the names of the peers that are sent it.
    """

    store: Store
    objects: ResultObjects
    destinations: Callable[[str], Sequence[str]]

    def run(self, score_id: int) -> None:
        """Take back what is to be taken back for a score; harmless where nothing is."""
        with self.store.transaction() as session:
            job = retractions.find(session, score_id)
        if job is None:
            return
        retraction = self._retraction(job)
        if retraction is None:
            _give_up(self.store, score_id, "no earlier report can be read")
            return
        results = self.objects.keep(job.study_key, build_retraction(retraction))
        with self.store.transaction() as session:
            deliveries = retractions.record(session, score_id, results, self.destinations)
            if deliveries is None:
                return
            engine.enqueue_all(session, Pool.DELIVER, deliveries, priority=job.priority)
            audit.append(
                session,
                "result.retracted",
                actor=ACTOR,
                study_key=job.study_key,
                reason=job.reason,
                results={result.kind: result.sha256 for result in results},
            )
        log.info("earlier results retracted", study=job.study_key, reason=job.reason)

    def _retraction(self, job: RetractionJob) -> Retraction | None:
        """What to say, in the name of the newest report that can be read; None where none can."""
        for report in job.reports:
            try:
                with self.objects.local(report.path, report.sha256, report.bytes) as file:
                    source = read_dataset(file)
            except (UnreadableInstanceError, ObjectMissingError, ObjectDamagedError) as error:
                log.warning("earlier report cannot be read", study=job.study_key, error=type(error).__name__)
                continue
            return Retraction(
                source=source,
                predecessor_sr=job.predecessor,
                shown_as=job.shown_as,
                reason=Reason(job.reason) if job.state is State.NOT_ASSESSABLE else None,
                detail=why.REASONS.get(job.reason, ""),
                model_sha256=job.model_hash,
                config_digest=job.config_digest,
                content_hash=job.content_hash,
                run_at=job.run_at,
                software_version=__version__,
            )
        return None


def failed(store: Store, score_id: int, error: Exception) -> None:
    """Store that making a retraction failed; harmless where none was wanted.

    Where the database or the store of objects is away, or the disk is full, the rows still want it, and the
    reaper brings it back.
    """
    if isinstance(error, (*engine.DATABASE_AWAY, StorageError, SpoolFullError)):
        log.warning("retraction waits", exc_info=error)
    else:
        _give_up(store, score_id, type(error).__name__)


def _give_up(store: Store, score_id: int, why_not: str) -> None:
    """Store that a retraction cannot be made: a person must tell the archive."""
    with store.transaction() as session:
        study_key = retractions.give_up(session, score_id)
        if study_key is None:
            return
        audit.append(session, "result.retraction_failed", actor=ACTOR, study_key=study_key, error=why_not)
    log.error("earlier results not retracted: the archive still shows them", study=study_key, why=why_not)

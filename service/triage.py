"""Job to scores to results to deliveries. Read this second.

One job is one model on one study revision. Running it twice, or on two workers, changes nothing: results
are a pure function of the job (I3, I4), and the first to store them wins.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from sqlalchemy.orm import Session

from dicom_node.kinds import DEFAULT_KINDS, ResultKind
from dicom_node.reader import read_headers
from dicom_node.results import BuiltResult, ResultContext, build_results
from models.errors import DeviceMemoryError, NoNumberError, Reason, ServerAwayError, ServerRefusedError
from models.predictor import AnyPredictor
from models.scores import ModelIdentity
from models.scratch import Scratch
from service import __version__, announce, engine, nifti, retracting
from service.calibrations import InForce
from service.engine import DATABASE_AWAY, Pool
from service.errors import ObjectDamagedError, ObjectMissingError, StorageAwayError, StorageError
from service.meters import Meters
from service.provision import Provision
from service.retracting import Retracting
from service.selection import Verdict, judge
from service.shares import Shares
from service.store import Store, audit, jobs, packs, watches
from service.store.jobs import InferenceJob, Outcome
from service.store.maps import Curve, StoredMap
from service.store.objects import ResultObjects
from service.study import STUDY_DELETED, State
from service.traces import NO_TRACES, Traces

ACTOR = "inference"
ATTEMPTS_USED_UP = "attempts_used_up"
DEVICE_MEMORY = "device_memory"
SERVER_REFUSED = "server_refused"
NO_NUMBER = "no_number"
CODES: dict[type[Exception], str] = {  # of errors that say what to do
    DeviceMemoryError: DEVICE_MEMORY,
    ServerRefusedError: SERVER_REFUSED,
    NoNumberError: NO_NUMBER,
}
COMPARED = {Reason.DRIFTED, Reason.UNLIKE_TRAINING}  # why a study has no percentile that was compared
AWAY = (*DATABASE_AWAY, ServerAwayError, StorageAwayError)  # what no study can help
VOXEL_BYTES = 24  # of a study's memory for each of its voxels, from reading to results
PAUSE_S = 5.0  # before the second attempt; longer before each further one

log = structlog.get_logger(__name__)


class Models(Protocol):
    """What is in service."""

    def in_service(self, priority: int) -> AbstractContextManager[AnyPredictor]:
        """The model of now, for one study of a priority; it stays while it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """Scores studies, several at a time, each with the model that is in service when it begins.

    Attributes
    ----------
    store : Store
    provision : Provision
        Where the instances of a study come from.
    objects : ResultObjects
        Where result objects are kept.
    models : Models
    in_force : callable
        Given a transaction and the hash of a model: what its studies are scored against.
    destinations : callable
        Kind of a result to the names of the peers that are sent it.
    max_voxels, attempts : int
        Limits of one study.
    places : Shares
        Of this process, one a study. A study whose last attempt ended with its process takes all of them: if
        it kills again, it kills nobody else's attempt.
    memory : Shares
        Of this process, in bytes.
    scratch_folder : Path
        Where the arrays of a study are kept that is larger than all of it.
    software : mapping of str to str
        Versions of what shapes a score, for the record.
    kinds : frozenset of ResultKind
        Results to build.
    meters : Meters
    traces : Traces
    """

    store: Store
    provision: Provision
    objects: ResultObjects
    models: Models
    in_force: Callable[[Session, str], InForce]
    destinations: Callable[[str], Sequence[str]]
    max_voxels: int
    attempts: int
    places: Shares
    memory: Shares
    scratch_folder: Path
    software: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[ResultKind] = DEFAULT_KINDS
    meters: Meters = field(default_factory=Meters)
    traces: Traces = NO_TRACES
    _begun: set[int] = field(default_factory=set)  # scores with an attempt in hand

    def run(self, score_id: int) -> None:
        """Work on one score; harmless where it has ended."""
        with self.store.transaction() as session:
            found = jobs.standing(session, score_id)
        if found is None:
            Retracting(store=self.store, objects=self.objects, destinations=self.destinations).run(score_id)
            return
        places = self.places.capacity if found.was_cut_off else 1
        with (
            self.places.take(places, found.priority),
            self.models.in_service(found.priority) as predictor,
        ):
            try:
                self._attempt(score_id, predictor)
            finally:
                self._begun.discard(score_id)

    def _attempt(self, score_id: int, predictor: AnyPredictor) -> None:
        model = predictor.identity
        with self.store.transaction() as session:
            job = jobs.begin(session, score_id)
            self._begun.add(score_id)
            in_force = self.in_force(session, model.sha256)
        if job and (job.model_hash, job.config_digest) != (model.sha256, in_force.config_digest):
            job = self._for_this_model(job, model, in_force.config_digest)
        if job is None:
            return
        waited_s = (datetime.now(UTC) - job.run_at).total_seconds()
        self.meters.claimed(job.priority, waited_s)
        if job.is_deleted:
            self._fail(job, STUDY_DELETED, "its bytes were deleted; have the study sent again")
        elif job.attempt > self.attempts:  # it took every worker down with it
            self._fail(job, ATTEMPTS_USED_UP, "every attempt ended the worker process")
        else:
            outcome = self._judge(job, predictor, in_force)
            if outcome.reason in COMPARED:  # without a percentile, and this is with what
                document = in_force.calibrated.document
                compared = {"calibration_hash": document.sha256 if document else model.calibration_sha256}
                outcome = replace(outcome, values={**outcome.values, **compared})
            self._record(job, outcome, model)

    def _judge(self, job: InferenceJob, predictor: AnyPredictor, in_force: InForce) -> Outcome:
        """Score the study, or say why not, and keep the result objects that say so."""
        begun = time.monotonic()
        with self.provision.of(job) as paths, ExitStack() as held:
            fetched = time.monotonic()

            def reserve(voxels: int) -> Scratch:
                held.close()  # what a series before this one held
                wanted = voxels * VOXEL_BYTES
                held.enter_context(self.memory.take(wanted, job.priority))
                return Scratch(self.scratch_folder if wanted > self.memory.capacity else None)

            verdict = judge(
                paths,
                predictor,
                max_voxels=self.max_voxels,
                reserve=reserve,
                calibrated=in_force.calibrated,
                is_withdrawn=in_force.withdrawn.holds,
                series_of=job.series,
            )
            judged = time.monotonic()
            model = verdict.scores.model if verdict.scores else predictor.identity
            built = self._build(job, verdict, model)
            results_at = time.monotonic()
            results = self.objects.keep(job.study_key, built)
            kept_map = self._keep_map(job, verdict)
        seconds = {
            "fetch": fetched - begun,
            "read": judged - fetched - verdict.scoring_s,  # with the wait for memory
            "score": verdict.scoring_s,  # prepare, infer, aggregate
            "build": results_at - judged,
            "keep": time.monotonic() - results_at,
        }
        values = self._columns(verdict, model) | {"software": dict(self.software)}
        if verdict.scores is None:
            return Outcome(
                state=State.NOT_ASSESSABLE,
                reason=None if verdict.reason is None else verdict.reason.value,
                detail=verdict.detail,
                values=values,
                results=results,
                seconds=seconds,
            )
        return Outcome(state=State.SCORED, values=values, results=results, seconds=seconds, map=kept_map)

    def _build(self, job: InferenceJob, verdict: Verdict, model: ModelIdentity) -> tuple[BuiltResult, ...]:
        if verdict.series is None:
            return ()
        sources = read_headers(verdict.series)
        if not sources:  # no object can refer to a study whose headers cannot be read
            return ()
        return build_results(
            ResultContext(
                sources=sources,
                volume=verdict.volume,
                scores=verdict.scores,
                reason=verdict.reason,
                detail=verdict.detail,
                model=model,
                config_digest=job.config_digest,
                content_hash=job.content_hash,
                run_at=job.run_at,
                software_version=__version__,
                predecessor_sr=job.predecessor,
                kinds=self.kinds,
                shown_as=job.shown_as,
            )
        )

    def _keep_map(self, job: InferenceJob, verdict: Verdict) -> StoredMap | None:
        """Keep the map of a volume for the page: results hold its bands and its colours alone."""
        if verdict.scores is None or verdict.volume is None or len(verdict.volume.voxels) == 1:
            return None
        values = verdict.scores.map
        kept = self.objects.keep_map(job.study_key, b"".join(nifti.of_map(values, verdict.volume.affine)))
        peaks = tuple(round(float(plane.max()), 4) for plane in values)
        return StoredMap(
            path=kept.path,
            sha256=kept.sha256,
            bytes=kept.bytes,
            voxels=values.size,
            curve=Curve(peaks=peaks, bands=verdict.scores.bands),
        )

    @staticmethod
    def _columns(verdict: Verdict, model: ModelIdentity) -> dict[str, Any]:
        """Columns of the score row; the model is named also where it declined (I10).

        Without a percentile the raw score is kept, for the order and for a calibration to come.
        """
        columns: dict[str, Any] = {
            "model_name": model.name,
            "model_version": model.version,
            "series": [asdict(note) for note in verdict.notes],
        }
        if verdict.measured is not None:
            measured = verdict.measured
            columns |= {
                "study_score": measured.study_score,
                "heads": dict(measured.heads),
                "group_key": measured.group.key,
                "looks": dict(measured.looks),
                "peak": measured.peak,
                "tail": measured.tail,
                "provider": measured.provider,
                "preprocessing": measured.preprocessing,
            }
        if verdict.look is not None:
            columns |= {"group_key": verdict.look.group.key, "looks": dict(verdict.look.looks)}
        if verdict.scores is None or verdict.series is None or verdict.volume is None:
            return columns
        scores = verdict.scores
        return columns | {
            "p_value": scores.p_value,
            "reference_group": scores.model.group,
            "reference_n": scores.model.n,
            "calibration_hash": scores.model.calibration_sha256,
            "scored_series": verdict.series.key,
            "regions": [asdict(region) for region in scores.regions],
            "pictures": len(verdict.volume.voxels),
        }

    def abandon(self) -> None:
        """Take back the attempts in hand: this process was told to end, which is no study's fault."""
        with self.store.transaction() as session:
            for score_id in sorted(self._begun):
                if jobs.find(session, score_id) is not None:
                    jobs.excuse(session, score_id, "the worker was stopped", counts=False)

    def failed(self, score_id: int, error: Exception) -> None:
        """Store a failed attempt: another one later, or the dead letter."""
        counts = not isinstance(error, AWAY)
        detail = f"last error: {type(error).__name__}"
        with self.store.transaction() as session:
            job = jobs.find(session, score_id)
            if job is None:
                retracting.failed(self.store, score_id, error)
                return
            is_made_again = self._is_made_again(session, job, error)  # locks the study, as everybody first
            jobs.excuse(session, score_id, detail, counts=counts)
            if is_made_again:
                pass  # its job comes back with the new pack
            elif job.attempt < self.attempts or not counts:
                due = datetime.now(UTC) + timedelta(seconds=PAUSE_S * job.attempt)
                engine.enqueue(session, Pool.INFER, score_id, priority=job.priority, not_before=due)
        log.warning("attempt failed", study=job.study_key, attempt=job.attempt, exc_info=error)
        self.meters.failed()
        if job.attempt >= self.attempts and counts:
            if isinstance(error, StorageError):
                self._fail(job, error.code, str(error))
            else:
                self._fail(job, CODES.get(type(error), ATTEMPTS_USED_UP), detail)

    def _is_made_again(self, session: Session, job: InferenceJob, error: Exception) -> bool:
        """Ask the node for another pack in place of one that is missing or damaged."""
        if not isinstance(error, (ObjectMissingError, ObjectDamagedError)) or job.pack is None:
            return False
        if job.attempt >= self.attempts or not packs.refuse(
            session, job.revision_id, sha256=job.pack.sha256, reason=error.code
        ):
            return False
        audit.append(
            session,
            "pack.refused",
            actor=ACTOR,
            study_key=job.study_key,
            revision=job.revision,
            reason=error.code,
        )
        return True

    def _fail(self, job: InferenceJob, reason: str, detail: str) -> None:
        self._record(job, Outcome(state=State.FAILED, reason=reason, detail=detail))

    def _record(self, job: InferenceJob, outcome: Outcome, model: ModelIdentity | None = None) -> None:
        """Scores, results, deliveries, their jobs and the audit row in one transaction (I5)."""
        with self.store.transaction() as session:
            deliveries = jobs.record(session, job, outcome, self.destinations)
            if deliveries is None:
                return
            for delivery_id in deliveries:
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority)
            if outcome.values.get("group_key") and outcome.values.get("calibration_hash"):
                watches.note(session, job.score_id)
            audit.append(
                session,
                f"study.{outcome.state.value}",
                actor=ACTOR,
                study_key=job.study_key,
                revision=job.revision,
                reason=outcome.reason,
                p_value=outcome.values.get("p_value"),
                model_hash=job.model_hash,
                calibration_hash=outcome.values.get("calibration_hash")
                or (model.calibration_sha256 if model else None),
                config_digest=job.config_digest,
                results={result.kind: result.sha256 for result in outcome.results},
            )
            announce.announce_end(session, job.score_id)
        self._count(job, outcome)
        log.info("study ended", study=job.study_key, state=outcome.state.value, reason=outcome.reason)

    def _count(self, job: InferenceJob, outcome: Outcome) -> None:
        """Tell metrics and traces of a study that ended."""
        self.meters.ended(outcome.state.value, outcome.seconds)
        ended = datetime.now(UTC)
        begun = ended - timedelta(seconds=sum(outcome.seconds.values()))
        queued = min(job.run_at, begun)
        self.traces.tell("wait", job.study_key, begun=queued, ended=begun, priority=job.priority)
        self.traces.tell(
            "infer",
            job.study_key,
            begun=begun,
            ended=ended,
            error=outcome.reason if outcome.state is State.FAILED else None,
            parts=outcome.seconds,
            state=outcome.state.value,
            revision=job.revision,
            attempt=job.attempt,
        )

    def _for_this_model(
        self, job: InferenceJob, model: ModelIdentity, config_digest: str
    ) -> InferenceJob | None:
        """Return the job as one of our model; None where there is nothing left to do.

        The model, its calibration or the configuration changed since the job was made, or changed back.
        """
        model_hash = model.sha256
        with self.store.transaction() as session:
            if not jobs.rename(session, job, model_hash=model_hash, config_digest=config_digest):
                return None
            audit.append(
                session,
                "study.queued",
                actor=ACTOR,
                study_key=job.study_key,
                revision=job.revision,
                completed_by="model_changed",
                model_hash=model_hash,
            )
        return replace(job, model_hash=model_hash, config_digest=config_digest)

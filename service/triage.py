"""Job to scores to results to deliveries. Read this second.

One job is one model on one study revision. Running it twice, or on two workers, changes nothing: results
are a pure function of the job (I3, I4), and the first to store them wins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from dicom_node.kinds import DEFAULT_KINDS, ResultKind
from dicom_node.reader import read_headers
from dicom_node.results import BuiltResult, ResultContext, build_results
from models.predictor import AnyPredictor
from service import __version__, engine
from service.engine import DATABASE_AWAY, Pool
from service.selection import Verdict, judge
from service.store import Store, audit, jobs
from service.store.jobs import InferenceJob, Outcome
from service.store.objects import ResultFolder
from service.study import State

ACTOR = "inference"
ATTEMPTS_USED_UP = "attempts_used_up"
PAUSE_S = 5.0  # before the second attempt; longer before each further one

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """Scores studies with one model.

    Attributes
    ----------
    store : Store
    spool_folder : Path
    objects : ResultFolder
        Where result objects are kept.
    predictor : AnyPredictor
    config_digest : str
        Of everything besides the model that a result depends on.
    destinations : callable
        Kind of a result to the names of the peers that are sent it.
    max_voxels, attempts : int
        Limits of one study.
    kinds : frozenset of ResultKind
        Results to build.
    """

    store: Store
    spool_folder: Path
    objects: ResultFolder
    predictor: AnyPredictor
    config_digest: str
    destinations: Callable[[str], Sequence[str]]
    max_voxels: int
    attempts: int
    kinds: frozenset[ResultKind] = DEFAULT_KINDS

    def run(self, score_id: int) -> None:
        """Work on one score; harmless where it has ended."""
        with self.store.transaction() as session:
            job = jobs.begin(session, score_id)
        if job and (job.model_hash, job.config_digest) != (
            self.predictor.identity.sha256,
            self.config_digest,
        ):
            job = self._for_this_model(job)
        if job is None:
            return
        if job.attempt > self.attempts:  # it took every worker down with it
            self._fail(job, "every attempt ended the worker process")
        else:
            self._record(job, self._judge(job))

    def _judge(self, job: InferenceJob) -> Outcome:
        """Score the study, or say why not, and keep the result objects that say so."""
        folder = self.spool_folder / job.study_key
        begun = time.monotonic()
        verdict = judge(
            [folder / name for name in job.file_names], self.predictor, max_voxels=self.max_voxels
        )
        judged = time.monotonic()
        built = self._build(job, verdict)
        results_at = time.monotonic()
        results = self.objects.keep(job.study_key, built)
        seconds = {
            "judge": judged - begun,  # read, preprocess, infer, aggregate
            "build": results_at - judged,
            "keep": time.monotonic() - results_at,
        }
        if verdict.scores is None:
            return Outcome(
                state=State.NOT_ASSESSABLE,
                reason=None if verdict.reason is None else verdict.reason.value,
                detail=verdict.detail,
                values=self._columns(verdict),
                results=results,
                seconds=seconds,
            )
        return Outcome(state=State.SCORED, values=self._columns(verdict), results=results, seconds=seconds)

    def _build(self, job: InferenceJob, verdict: Verdict) -> tuple[BuiltResult, ...]:
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
                model=self.predictor.identity,
                config_digest=job.config_digest,
                content_hash=job.content_hash,
                run_at=job.run_at,
                software_version=__version__,
                predecessor_sr=job.predecessor,
                kinds=self.kinds,
            )
        )

    def _columns(self, verdict: Verdict) -> dict[str, Any]:
        """Columns of the score row; the model is named also where it declined (I10)."""
        columns: dict[str, Any] = {
            "model_name": self.predictor.identity.name,
            "model_version": self.predictor.identity.version,
            "series": [asdict(note) for note in verdict.notes],
        }
        if verdict.scores is None or verdict.series is None or verdict.volume is None:
            return columns
        scores = verdict.scores
        return columns | {
            "study_score": scores.study_score,
            "p_value": scores.p_value,
            "reference_group": scores.model.group,
            "reference_n": scores.model.n,
            "calibration_hash": scores.model.calibration_sha256,
            "scored_series": verdict.series.key,
            "heads": dict(scores.heads),
            "regions": [asdict(region) for region in scores.regions],
            "pictures": len(verdict.volume.voxels),
        }

    def failed(self, score_id: int, error: Exception) -> None:
        """Store a failed attempt: another one later, or the dead letter."""
        with self.store.transaction() as session:
            job = jobs.find(session, score_id)
            if job is None:
                return
            if isinstance(error, DATABASE_AWAY):
                jobs.forgive(session, score_id)
            if job.attempt < self.attempts or isinstance(error, DATABASE_AWAY):
                due = datetime.now(UTC) + timedelta(seconds=PAUSE_S * job.attempt)
                engine.enqueue(session, Pool.INFER, score_id, priority=job.priority, not_before=due)
        log.warning("attempt failed", study=job.study_key, attempt=job.attempt, exc_info=error)
        if job.attempt >= self.attempts and not isinstance(error, DATABASE_AWAY):
            self._fail(job, f"last error: {type(error).__name__}")

    def _fail(self, job: InferenceJob, detail: str) -> None:
        self._record(job, Outcome(state=State.FAILED, reason=ATTEMPTS_USED_UP, detail=detail))

    def _record(self, job: InferenceJob, outcome: Outcome) -> None:
        """Scores, results, deliveries, their jobs and the audit row in one transaction (I5)."""
        with self.store.transaction() as session:
            deliveries = jobs.record(session, job, outcome, self.destinations)
            if deliveries is None:
                return
            for delivery_id in deliveries:
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority)
            audit.append(
                session,
                f"study.{outcome.state.value}",
                actor=ACTOR,
                study_key=job.study_key,
                revision=job.revision,
                reason=outcome.reason,
                p_value=outcome.values.get("p_value"),
                model_hash=self.predictor.identity.sha256,
                calibration_hash=self.predictor.identity.calibration_sha256,
                config_digest=self.config_digest,
                results={result.kind: result.sha256 for result in outcome.results},
            )
        log.info("study ended", study=job.study_key, state=outcome.state.value, reason=outcome.reason)

    def _for_this_model(self, job: InferenceJob) -> InferenceJob | None:
        """Return the job as one of our model; None where there is nothing left to do.

        The model or the configuration changed since the job was made, by an upgrade or back by a rollback.
        """
        model_hash = self.predictor.identity.sha256
        with self.store.transaction() as session:
            if not jobs.rename(session, job, model_hash=model_hash, config_digest=self.config_digest):
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
        return replace(job, model_hash=model_hash, config_digest=self.config_digest, attempt=1)

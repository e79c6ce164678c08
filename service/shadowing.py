"""A model that only watches: it scores what has been scored, behind everything else, and sends nothing.

Its rows are made by looking at what has ended, not by whoever ends it: nothing of a shadow stands in the way
of a study, whatever becomes of it. While a study waits for the model in service, a shadow takes no other.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from models.documents import SiteCalibration
from models.predictor import AnyPredictor
from models.scratch import Scratch
from service import engine
from service.engine import DATABASE_AWAY, Pool
from service.errors import SettingsError, StorageError
from service.provision import Provision
from service.selection import Verdict, judge
from service.shadowed import Shadowed, shadow_of
from service.shares import Shares
from service.store import Store, shadows
from service.store.shadows import Watched
from service.study import Priority, State

ASIDE_S = 15.0  # before it looks again whether anything waits for the model in service
PAUSE_S = 30.0  # before another attempt, times how many there were
ATTEMPTS = 3
ATTEMPTS_USED_UP = "attempts_used_up"
VOXEL_BYTES = 24  # of a study's memory for each of its voxels
NICE = 19  # what this process leaves to others of this machine's processors: everything they want

log = structlog.get_logger(__name__)


def _end_this_process() -> None:
    """As a supervisor would; it starts the role again where one is wanted."""
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowing:
    """Scores studies for comparison, one at a time.

    Attributes
    ----------
    store : Store
    provision : Provision
        Where the instances of a study come from.
    data : Path
        Data folder, in which the choice stands.
    chosen : Shadowed
        What this process was started for.
    predictor : AnyPredictor
        Of it.
    calibrated : callable
        What its percentiles rest on, now.
    max_voxels : int
    stalled_s : float
        Silence after which a worker counts as dead.
    memory : Shares
        Of this process, in bytes.
    scratch_folder : Path
        Where the arrays of a study are kept that is larger than all of it.
    on_change : callable
        Done when another model is to watch, or none.
    """

    store: Store
    provision: Provision
    data: Path
    chosen: Shadowed
    predictor: AnyPredictor
    calibrated: Callable[[], SiteCalibration]
    max_voxels: int
    stalled_s: float
    memory: Shares
    scratch_folder: Path
    on_change: Callable[[], None] = _end_this_process
    _attempts: dict[int, int] = field(default_factory=dict)  # in hand: which one it is

    def follow(self) -> None:
        """Queue what has ended and was not looked at, and what lost its job; end where the choice changed."""
        try:
            now = shadow_of(self.data)
        except SettingsError:
            log.warning("choice of the shadow cannot be read: the one before goes on")
            now = self.chosen
        if now is None or now.sha256 != self.chosen.sha256:
            log.info("another model is to watch, or none")
            self.on_change()
            return
        with self.store.transaction() as session:
            shadows.want(session, self.chosen.sha256, since=now.since)
            rows = shadows.waiting(session, self.chosen.sha256)
            for row_id in engine.without_live_job(session, Pool.SHADOW, rows, stalled_s=self.stalled_s):
                engine.enqueue(session, Pool.SHADOW, row_id, priority=Priority.SCREENING)

    def run(self, row_id: int) -> None:
        """Look at one study, unless one waits for the model in service; harmless where it has ended."""
        with self.store.transaction() as session:
            is_aside = engine.depth(session)[Pool.INFER].oldest_s > 0
            begun = None if is_aside else shadows.begin(session, row_id, self.chosen.sha256)
        if is_aside:
            self._again(row_id, ASIDE_S)
        if begun is None:
            return
        job, attempt = begun
        self._attempts[row_id] = attempt
        if attempt > ATTEMPTS:  # it took every process down with it
            self._end(row_id, _given_up("every attempt ended the worker process"))
            return
        started = time.monotonic()
        with self.provision.of(job) as paths:
            fetched = time.monotonic()
            verdict = judge(
                paths,
                self.predictor,
                max_voxels=self.max_voxels,
                reserve=self._reserve,
                calibrated=self.calibrated(),
                series_of=job.series,
            )
        taken = time.monotonic() - fetched
        seconds = {
            "fetch": fetched - started,
            "read": taken - verdict.scoring_s,
            "score": verdict.scoring_s,
        }
        self._end(row_id, self._watched(verdict, seconds))

    def failed(self, row_id: int, error: Exception) -> None:
        """Decide about another attempt."""
        counts = not isinstance(error, (*DATABASE_AWAY, StorageError))
        attempt = self._attempts.get(row_id, 1)
        log.warning("attempt of the shadow failed", attempt=attempt, exc_info=error)
        if attempt >= ATTEMPTS and counts:
            self._end(row_id, _given_up(f"last error: {type(error).__name__}"))
            return
        if not counts:
            with self.store.transaction() as session:
                shadows.excuse(session, row_id)
        self._again(row_id, PAUSE_S * attempt)

    def _reserve(self, voxels: int) -> Scratch:
        """One study at a time: what is larger than this process may hold has its voxels on disk."""
        return Scratch(self.scratch_folder if voxels * VOXEL_BYTES > self.memory.capacity else None)

    def _again(self, row_id: int, pause_s: float) -> None:
        due = datetime.now(UTC) + timedelta(seconds=pause_s)
        with self.store.transaction() as session:
            engine.enqueue(session, Pool.SHADOW, row_id, priority=Priority.SCREENING, not_before=due)

    def _end(self, row_id: int, watched: Watched) -> None:
        self._attempts.pop(row_id, None)
        with self.store.transaction() as session:
            shadows.end(session, row_id, watched)

    def _watched(self, verdict: Verdict, seconds: dict[str, float]) -> Watched:
        identity = verdict.scores.model if verdict.scores else self.predictor.identity
        values: dict[str, Any] = {
            "model_name": identity.name,
            "model_version": identity.version,
            "seconds": seconds,
        }
        if verdict.measured is not None:
            values |= {
                "group_key": verdict.measured.group.key,
                "study_score": verdict.measured.study_score,
            }
        if verdict.scores is None:
            return Watched(
                state=State.NOT_ASSESSABLE,
                reason=None if verdict.reason is None else verdict.reason.value,
                detail=verdict.detail,
                values=values,
            )
        return Watched(
            state=State.SCORED,
            values=values
            | {
                "p_value": verdict.scores.p_value,
                "calibration_hash": identity.calibration_sha256,
            },
        )


def _given_up(detail: str) -> Watched:
    return Watched(state=State.FAILED, reason=ATTEMPTS_USED_UP, detail=detail)

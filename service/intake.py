"""From spool to job: arrivals become rows, a quiet study becomes a revision with a job.

The spool is the truth (I1): this loop only reads it, so it may die at any point and start again from
nothing. The receiver never waits for it (I6).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from dicom_node.errors import UnreadableInstanceError
from dicom_node.keys import ReceivedHeader
from dicom_node.spool import Spool, SpooledInstance
from service import engine
from service.engine import DATABASE_AWAY, Pool
from service.store import Store, audit, jobs, studies
from service.store.studies import Arrival

ACTOR = "node"
QUIET_PERIOD = "quiet_period"  # the completeness trigger recorded with the revision
# File systems stamp folders in ticks of some milliseconds: a folder this young may change under its stamp.
SETTLED_NS = 2_000_000_000
REST_NS = 60_000_000_000  # before a study that could not be taken in is tried again
BATCH = 200  # instances registered in one transaction, so that a huge study shows progress

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Intake:
    """Watches the spool and queues complete studies.

    Attributes
    ----------
    store : Store
    spool : Spool
    model_hash, config_digest : str
        What new jobs are queued for.
    quiet_s : callable
        Sender's AE title to its quiet period in seconds.
    """

    store: Store
    spool: Spool
    model_hash: str
    config_digest: str
    quiet_s: Callable[[str], float]
    _seen: dict[str, int] = field(default_factory=dict)
    _rests_until: dict[str, int] = field(default_factory=dict)

    def step(self, now: datetime) -> None:
        """Register what arrived and queue what is complete.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        try:
            self._register_arrivals()
            self._queue_complete(now)
        except DATABASE_AWAY:
            # What comes back may be a replica that lacks the last rows: look at every study again.
            self._seen.clear()
            raise

    def _register_arrivals(self) -> None:
        for key, changed_ns in self.spool.studies():
            if self._seen.get(key) == changed_ns or self._rests_until.get(key, 0) > time.time_ns():
                continue
            with self._alone(key):
                self._register(key)
                if time.time_ns() - changed_ns > SETTLED_NS:
                    self._seen[key] = changed_ns

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Let one bad study fail alone: it is told, and tried again after a rest."""
        try:
            yield
        except DATABASE_AWAY:
            raise
        except Exception:
            self._rests_until[key] = time.time_ns() + REST_NS
            log.exception("study cannot be taken in", study=key)

    def _register(self, key: str) -> None:
        with self.store.transaction() as session:
            known = studies.known_files(session, key)
        new = [instance for instance in self.spool.instances(key) if instance.file_name not in known]
        for start in range(0, len(new), BATCH):
            found = [_read(instance) for instance in new[start : start + BATCH]]
            with self.store.transaction() as session:
                uids = [one.header.sop_instance_uid for one in found if one.header is not None]
                own = studies.own_results_among(session, uids)
                arrivals = [_arrival(one, own) for one in found]
                is_new = studies.register(session, key, arrivals)
                if is_new:
                    audit.append(
                        session, "study.received", actor=ACTOR, study_key=key, sender=arrivals[0].sender
                    )
            if is_new:
                log.info("study received", study=key)

    def _queue_complete(self, now: datetime) -> None:
        with self.store.transaction() as session:
            waiting = studies.pending(session)
        for study in waiting:
            quiet = max(self.quiet_s(sender) for sender in study.senders)
            is_resting = self._rests_until.get(study.key, 0) > time.time_ns()
            if now - study.last_instance_at >= timedelta(seconds=quiet) and not is_resting:
                with self._alone(study.key):
                    self._queue(study.key, now)

    def _queue(self, key: str, now: datetime) -> None:
        """Study revision, job and audit row in one transaction (I5)."""
        with self.store.transaction() as session:
            revision = studies.complete(session, key, completed_by=QUIET_PERIOD, now=now)
            if revision is None:
                return
            score_id = jobs.queue(
                session,
                revision.id,
                model_hash=self.model_hash,
                config_digest=self.config_digest,
                run_at=now.astimezone(UTC).replace(microsecond=0),
            )
            if score_id is not None:
                engine.enqueue(session, Pool.INFER, score_id, priority=revision.priority)
            audit.append(
                session,
                "study.queued",
                actor=ACTOR,
                study_key=key,
                revision=revision.number,
                completed_by=QUIET_PERIOD,
                content_hash=revision.content_hash,
                model_hash=self.model_hash,
            )
        log.info("study queued", study=key, revision=revision.number)


@dataclass(frozen=True, slots=True)
class _Found:
    """One file of the spool with what it says; neither where the disk damaged it after it was received."""

    instance: SpooledInstance
    header: ReceivedHeader | None
    sha256: str


def _read(instance: SpooledInstance) -> _Found:
    try:
        return _Found(instance, instance.header(), instance.sha256())
    except (UnreadableInstanceError, OSError):
        log.exception("instance damaged on disk", study=instance.path.parent.name, file=instance.file_name)
        return _Found(instance, None, "")


def _arrival(found: _Found, own: frozenset[str]) -> Arrival:
    header = found.header
    return Arrival(
        file_name=found.instance.file_name,
        sha256=found.sha256,
        bytes=found.instance.size_bytes,
        sop_class_uid=header.sop_class_uid if header else "",
        # An archive may rewrite what marks an object as ours; its UID it must keep.
        is_own=header is not None and (header.is_own or header.sop_instance_uid in own),
        sender=header.sender if header else "",
        received_at=datetime.fromtimestamp(found.instance.mtime_ns / 1e9, UTC),
        modality=header.modality if header else "",
        description=header.study_description if header else "",
    )

"""From the spool to the store: a complete study becomes one pack, and only then a job.

Runs beside the intake in the node and never in the receiver's way (I6). The received files stay until
retention takes the whole study: a pack that was damaged or lost is made of them again. Killed anywhere, it
starts over from the rows: a pack is a pure function of the study, so writing it twice changes nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from dicom_node.errors import UnreadableInstanceError
from dicom_node.pack import pack_parts
from dicom_node.spool import Spool, SpooledInstance
from service import engine, storage
from service.admission import Admission
from service.engine import Pool
from service.errors import InstancesMissingError, StorageError
from service.storage import Kept, ObjectStore
from service.store import Store, audit, jobs, packs
from service.store.jobs import Outcome
from service.store.packs import WantedPack
from service.study import State

ACTOR = "node"
AT_ONCE = 16  # packs looked for in one query
REST_S = 15.0  # before a store that did not take a pack is asked again
SWEEP_EVERY_S = 3600.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Packing:
    """Makes the packs of complete studies.

    Attributes
    ----------
    store : Store
    spool : Spool
    objects : ObjectStore or None
        None: the site has no store any more, and studies that wait for a pack are read from the spool.
    admission : Admission
    """

    store: Store
    spool: Spool
    objects: ObjectStore | None
    admission: Admission
    _rests_until: float = field(default=0.0)
    _swept_at: float | None = field(default=None)

    def step(self, now: datetime) -> None:
        """Make every pack that is wanted.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        if time.monotonic() < self._rests_until:
            return
        with self.store.transaction() as session:
            wanted = packs.wanted(session, limit=AT_ONCE)
        try:
            self._sweep()
            for pack in wanted:
                self._make(pack, now)
        except StorageError:
            # Not a study's fault: nobody loses an attempt while the store is away or lies.
            self._rests_until = time.monotonic() + REST_S
            log.exception("packs wait for the store", waiting=len(wanted))

    def _sweep(self) -> None:
        is_due = self._swept_at is None or time.monotonic() - self._swept_at > SWEEP_EVERY_S
        if self.objects is not None and is_due:
            removed = self.objects.sweep()
            self._swept_at = time.monotonic()
            if removed:
                log.info("interrupted uploads removed", count=removed)

    def _make(self, pack: WantedPack, now: datetime) -> None:
        try:
            instances = self._received(pack)
            if self.objects is None:
                kept = None
            else:
                name = storage.pack_name(pack.study_key, pack.revision.content_hash)
                kept = storage.keep(self.objects, name, _parts(instances))
        except InstancesMissingError as error:
            self._lose(pack, error, now)
            return
        self._confirm(pack, kept, now)
        self._remove_outdated(pack.study_key)

    def _received(self, pack: WantedPack) -> list[SpooledInstance]:
        """Received files of a revision, each still what was received.

        Raises
        ------
        InstancesMissingError
        """
        here = {instance.file_name: instance for instance in self.spool.instances(pack.study_key)}
        for instance in pack.instances:
            if instance.file_name not in here:
                raise InstancesMissingError("Received files of the study are gone. Have it sent again.")
            if instance.sha256 and _digest(here[instance.file_name]) != instance.sha256:
                raise InstancesMissingError(
                    "Received files of the study were damaged on the disk. Have it sent again."
                )
        return [here[instance.file_name] for instance in pack.instances]

    def _confirm(self, pack: WantedPack, kept: Kept | None, now: datetime) -> None:
        """Pack and job in one transaction: no worker sees the study before (I5)."""
        with self.store.transaction() as session:
            if kept is None:
                scores = packs.release(session, pack.revision.id)
            else:
                scores = packs.confirm(session, pack.revision.id, sha256=kept.sha256, size=kept.bytes)
            if scores is None:
                return
            if kept is not None:
                audit.append(
                    session,
                    "pack.confirmed",
                    actor=ACTOR,
                    study_key=pack.study_key,
                    revision=pack.revision.number,
                    sha256=kept.sha256,
                    bytes=kept.bytes,
                )
            for score_id in scores:
                engine.enqueue(session, Pool.INFER, score_id, priority=pack.revision.priority)
            if not scores:
                self.admission.admit(
                    session, pack.study_key, pack.revision, completed_by=pack.completed_by, now=now
                )
        log.info("study packed", study=pack.study_key, revision=pack.revision.number)

    def _lose(self, pack: WantedPack, error: InstancesMissingError, now: datetime) -> None:
        """End a study whose pack nobody can make any more; a person decides."""
        with self.store.transaction() as session:
            scores = packs.lose(session, pack.revision.id, reason=error.code)
            if scores is None:
                return
            if not scores:
                score_id = self.admission.admit(
                    session, pack.study_key, pack.revision, completed_by=pack.completed_by, now=now
                )
                scores = () if score_id is None else (score_id,)
            for score_id in scores:
                job = jobs.find(session, score_id)
                if job is None:
                    continue
                outcome = Outcome(state=State.FAILED, reason=error.code, detail=str(error))
                jobs.record(session, job, outcome, lambda _: ())
                audit.append(
                    session, "study.failed", actor=ACTOR, study_key=pack.study_key, reason=error.code
                )
        log.error("received files are gone or damaged", study=pack.study_key, exc_info=error)

    def _remove_outdated(self, study_key: str) -> None:
        """Remove packs that the new one replaced; a job that still reads one is superseded anyway."""
        if self.objects is None:
            return
        with self.store.transaction() as session:
            outdated = packs.outdated(session, study_key)
        for _, content_hash in outdated:
            self.objects.remove(storage.pack_name(study_key, content_hash))
        if outdated:
            with self.store.transaction() as session:
                packs.forget(session, [revision_id for revision_id, _ in outdated])


def _parts(instances: list[SpooledInstance]) -> Iterator[bytes]:
    """Bytes of the pack; what the spool's disk refuses is not told as the store's failure."""
    try:
        yield from pack_parts(instances)
    except OSError as error:
        raise InstancesMissingError(
            "Received files of the study cannot be read. Have it sent again."
        ) from error


def _digest(instance: SpooledInstance) -> str:
    try:
        return instance.sha256()
    except (UnreadableInstanceError, OSError):
        return "unreadable"

"""From the spool to the store: a complete study becomes one pack, and only then a job.

Runs beside the intake in the node and never in the receiver's way (I6). The received files stay as
long as the site says, at least until the study has ended: a pack that is damaged is made of them again.
Killed anywhere, it starts over from the rows: a pack is a pure function of the study, so writing it twice
changes nothing.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

import structlog

from dicom_node.errors import UnreadableInstanceError
from dicom_node.pack import pack_parts, unpack
from dicom_node.spool import Spool, SpooledInstance
from service import announce, engine, storage
from service.admission import Admission
from service.engine import DATABASE_AWAY, Pool
from service.errors import (
    InstancesMissingError,
    ObjectMissingError,
    ScratchFullError,
    StorageAwayError,
    StorageError,
)
from service.storage import Kept, ObjectStore
from service.storage.scratch import Scratch
from service.store import Store, audit, jobs, packs
from service.store.jobs import Outcome
from service.store.packs import WantedPack
from service.study import CANCELLED, State

ACTOR = "node"
AT_ONCE = 8  # packs made before it is looked again for a more urgent one
UPLOADS = 4  # at the same time: a large study delays no small one
REST_S = 15.0  # before a pack that the store did not take is tried again
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
    stop : Event
        Set when the node stops: what is being uploaded is gone on with at the next start.
    scratch : Scratch
        For files that have left the node and are packed again with a late instance.
    """

    store: Store
    spool: Spool
    objects: ObjectStore | None
    admission: Admission
    scratch: Scratch
    stop: Event = field(default_factory=Event)
    _rest_until: dict[int, float] = field(default_factory=dict)  # by revision
    _swept_at: float | None = field(default=None)

    def step(self, now: datetime) -> None:
        """Make every pack that is wanted.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        self._rest_until = {
            revision: until for revision, until in self._rest_until.items() if until > time.monotonic()
        }
        with self.store.transaction() as session:
            wanted = packs.wanted(session, limit=AT_ONCE, besides=list(self._rest_until))
        if wanted:
            with ThreadPoolExecutor(UPLOADS, thread_name_prefix="pack") as uploads:
                for done in [uploads.submit(self._try, pack, now) for pack in wanted]:
                    done.result()
        self._sweep()

    def _try(self, pack: WantedPack, now: datetime) -> None:
        """Make a pack; one that the store does not take waits, and costs its study nothing."""
        if self.stop.is_set():
            return
        try:
            self._make(pack, now)
        except DATABASE_AWAY:
            raise
        except StorageError:
            self._rest_until[pack.revision.id] = time.monotonic() + REST_S
            log.exception("pack waits for the store", study=pack.study_key)
        except Exception:  # one bad study fails alone
            self._rest_until[pack.revision.id] = time.monotonic() + REST_S
            log.exception("study cannot be packed", study=pack.study_key)

    def _sweep(self) -> None:
        is_due = self._swept_at is None or time.monotonic() - self._swept_at > SWEEP_EVERY_S
        if self.objects is None or not is_due:
            return
        self._swept_at = time.monotonic()
        try:
            removed = self.objects.sweep()
        except StorageError:
            log.exception("interrupted uploads wait for the store")
        else:
            if removed:
                log.info("interrupted uploads removed", count=removed)

    def _make(self, pack: WantedPack, now: datetime) -> None:
        if pack.is_cancelled:
            self._fail(pack, CANCELLED, "", now)
            return
        try:
            try:
                kept = self._write(pack)
            except InstancesMissingError:  # or they left the node while they were read
                kept = self._write(pack)
        except InstancesMissingError as error:
            self._fail(pack, error.code, str(error), now)
            log.exception("received files are gone or damaged", study=pack.study_key)
            return
        if self._confirm(pack, kept, now):
            self._remove_outdated(pack.study_key)
        elif self.objects is not None:  # cancelled, superseded or deleted while it was written
            self.objects.remove(storage.pack_name(pack.study_key, pack.revision.content_hash))

    def _write(self, pack: WantedPack) -> Kept | None:
        """Write the pack and read it back; None where the site has no store any more."""
        with self._received(pack) as instances:
            if self.objects is None:
                return None
            name = storage.pack_name(pack.study_key, pack.revision.content_hash)
            return storage.keep(self.objects, name, self._parts(instances))

    @contextmanager
    def _received(self, pack: WantedPack) -> Iterator[list[SpooledInstance]]:
        """Received files of a revision, each still what was received.

        Raises
        ------
        InstancesMissingError
        """
        here = {instance.file_name: instance for instance in self.spool.instances(pack.study_key)}
        good = _as_received(pack, here)
        with ExitStack() as stack:
            if len(good) < len(pack.instances):
                # What left the node, and what came again with another content since.
                before = stack.enter_context(self._packed_before(pack))
                good = _as_received(pack, before) | good
                if any(instance.file_name not in here | before for instance in pack.instances):
                    raise InstancesMissingError("Received files of the study are gone. Have it sent again.")
                if len(good) < len(pack.instances):
                    raise InstancesMissingError(
                        "Received files of the study were damaged on the disk. Have it sent again."
                    )
            yield [good[instance.file_name] for instance in pack.instances]

    @contextmanager
    def _packed_before(self, pack: WantedPack) -> Iterator[dict[str, SpooledInstance]]:
        """Files of the revision before, for those that have left the node; none where it has no pack."""
        with self.store.transaction() as session:
            older = packs.older(session, pack.revision.id)
        if older is None or self.objects is None:
            yield {}
            return
        content_hash, size = older
        with self.scratch.folder(size) as folder:
            try:
                with self.objects.open(storage.pack_name(pack.study_key, content_hash)) as source:
                    unpack(source, folder, most_bytes=size)
            except (UnreadableInstanceError, ObjectMissingError) as error:
                raise InstancesMissingError(
                    "The pack of the revision before is gone or damaged. Have the study sent again."
                ) from error
            except OSError as error:  # of our own disk: the store's failures have their own classes
                raise ScratchFullError(ScratchFullError.__doc__) from error
            yield {
                path.name: SpooledInstance(path=path, size_bytes=path.stat().st_size, mtime_ns=0)
                for path in folder.iterdir()
            }

    def _parts(self, instances: list[SpooledInstance]) -> Iterator[bytes]:
        """Bytes of the pack; what the spool's disk refuses is not told as the store's failure."""
        try:
            for part in pack_parts(instances):
                if self.stop.is_set():
                    raise StorageAwayError("The node stops; the pack is gone on with at the next start.")
                yield part
        except OSError as error:
            raise InstancesMissingError(
                "Received files of the study cannot be read. Have it sent again."
            ) from error

    def _confirm(self, pack: WantedPack, kept: Kept | None, now: datetime) -> bool:
        """Pack and job in one transaction: no worker sees the study before (I5). False: nobody wants it."""
        with self.store.transaction() as session:
            if kept is None:
                scores = packs.release(session, pack.revision.id)
            else:
                scores = packs.confirm(session, pack.revision.id, sha256=kept.sha256, size=kept.bytes)
            if scores is None:
                return packs.is_confirmed(session, pack.revision.id)  # by another node
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
            if not packs.has_score(session, pack.revision.id):  # one that has ended is not begun again
                self.admission.admit(
                    session, pack.study_key, pack.revision, completed_by=pack.completed_by, now=now
                )
        log.info("study packed", study=pack.study_key, revision=pack.revision.number)
        return True

    def _fail(self, pack: WantedPack, reason: str, detail: str, now: datetime) -> None:
        """End a study whose pack nobody can make, or wants, any more; a person decides."""
        with self.store.transaction() as session:
            scores = packs.lose(session, pack.revision.id, reason=reason)
            if scores is None:
                return
            if not packs.has_score(session, pack.revision.id):
                score_id = self.admission.admit(
                    session, pack.study_key, pack.revision, completed_by=pack.completed_by, now=now
                )
                scores = () if score_id is None else (score_id,)
            for score_id in scores:
                job = jobs.find(session, score_id)
                if job is None:
                    continue
                outcome = Outcome(state=State.FAILED, reason=reason, detail=detail)
                if jobs.record(session, job, outcome, lambda _: (), while_parked=True) is None:
                    continue
                engine.cancel(session, Pool.INFER, score_id)
                audit.append(session, "study.failed", actor=ACTOR, study_key=pack.study_key, reason=reason)
                announce.announce_end(session, score_id)

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


def _as_received(pack: WantedPack, files: Mapping[str, SpooledInstance]) -> dict[str, SpooledInstance]:
    """Those of a pack's instances that a file holds as it was received."""
    return {
        instance.file_name: files[instance.file_name]
        for instance in pack.instances
        if instance.file_name in files
        and (not instance.sha256 or _digest(files[instance.file_name]) == instance.sha256)
    }


def _digest(instance: SpooledInstance) -> str:
    try:
        return instance.sha256()
    except (UnreadableInstanceError, OSError):
        return "unreadable"

"""Received files leave the node once the store has had the study's pack for as long as the site wants.

The pack is read once more before, for it is the only copy afterwards. What came again under a known name is
compared: the same bytes go, others are put into quarantine as a second data set under one UID (I2).
"""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from dicom_node.durable import sync_folder
from dicom_node.errors import UnreadableInstanceError
from dicom_node.quarantine import conflict
from dicom_node.spool import Spool, SpooledInstance, parts_of
from service import storage
from service.errors import ObjectDamagedError, ObjectMissingError, StorageError
from service.storage import Kept, ObjectStore
from service.store import Store, audit, packs
from service.store.packs import DoublyKept

ACTOR = "node"
LOOK_EVERY_S = 30.0
AT_ONCE = 50

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Clearing:
    """Frees the node's disk of what the store has.

    Attributes
    ----------
    store : Store
    spool : Spool
    objects : ObjectStore or None
    after : timedelta or None
        Since a study ended; None: never.
    """

    store: Store
    spool: Spool
    objects: ObjectStore | None
    after: timedelta | None
    _looked_at: float | None = field(default=None)

    def step(self, now: datetime) -> None:
        """Look every half minute.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        is_early = self._looked_at is not None and time.monotonic() - self._looked_at < LOOK_EVERY_S
        if self.objects is None or self.after is None or is_early:
            return
        self._looked_at = time.monotonic()
        with self.store.transaction() as session:
            found = packs.doubly_kept(session, ended_before=now - self.after, limit=AT_ONCE)
        try:
            for study in found:
                self._clear(study, self.objects)
        except StorageError:
            log.exception("received files stay: the store does not answer")

    def _clear(self, study: DoublyKept, objects: ObjectStore) -> None:
        reason = _what_is_wrong(study, objects)
        if reason is not None:
            self._have_made_again(study, reason)
            return
        with self.store.transaction() as session:
            if not packs.leave_node(session, study.study_key, study.content_hash):
                return
            audit.append(
                session, "study.left_node", actor=ACTOR, study_key=study.study_key, pack=study.sha256
            )
        hashes = {instance.file_name: instance.sha256 for instance in study.instances}
        for instance in self.spool.instances(study.study_key):
            if instance.file_name in hashes:  # else it is new, and the intake has not seen it yet
                self._remove(instance, hashes[instance.file_name])

    def _have_made_again(self, study: DoublyKept, reason: str) -> None:
        """Ask for another pack while the received files are here to make it of."""
        with self.store.transaction() as session:
            if packs.refuse(session, study.revision_id, sha256=study.sha256, reason=reason):
                audit.append(session, "pack.refused", actor=ACTOR, study_key=study.study_key, reason=reason)
        log.error("pack damaged in the store: made again", study=study.study_key, reason=reason)

    def _remove(self, instance: SpooledInstance, sha256: str) -> None:
        if sha256 and not _is(instance, sha256):
            path = instance.path
            self.spool.quarantine(parts_of(path), conflict(path.parent.name, path.name))
            log.warning("file differs from what was packed, kept in quarantine", file=instance.file_name)
        instance.path.unlink(missing_ok=True)
        sync_folder(instance.path.parent)


def _what_is_wrong(study: DoublyKept, objects: ObjectStore) -> str | None:
    """Code of what a pack in the store lacks to be the only copy; None where it is what was written."""
    try:
        found = storage.read(objects, storage.pack_name(study.study_key, study.content_hash))
    except ObjectMissingError as error:
        return error.code
    is_right = found == Kept(sha256=study.sha256, bytes=study.bytes)
    return None if is_right else ObjectDamagedError.code


def _is(instance: SpooledInstance, sha256: str) -> bool:
    try:
        return instance.sha256() == sha256
    except UnreadableInstanceError:
        return False

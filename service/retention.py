"""What may be deleted, when, and the proof (I11). Deletes nothing unless an age is set.

In this order, so that a kill anywhere loses and leaves nothing: the rows say *deleting*, with the audit row
that holds the proof; then the bytes go; then the rows say *deleted*, with the audit row of that. What was
begun is ended at the next step. One process acts at a time.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import text

from dicom_node.durable import sync_folder
from dicom_node.spool import Spool
from service.errors import StorageAwayError, StorageError
from service.storage import ObjectStore, pack_name
from service.store import Store, audit, keeping
from service.store.keeping import Ages, Deletion
from service.store.objects import ResultObjects

LOCK = 0x52_45_54_41_49_4E  # "RETAIN"
ACTOR = "retention"
LOOK_EVERY_S = 60.0
AT_ONCE = 200  # studies in one look, so that a long list does not hold the lock for hours

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What one look removed."""

    studies: int
    bytes: int
    quarantined: int


@dataclass(slots=True, kw_only=True)
class Retention:
    """Deletes what is past its age.

    Attributes
    ----------
    store : Store
    spool : Spool
    objects : ObjectStore or None
        Where packs are.
    results : ResultObjects
    ages : mapping of State to timedelta
        By state; one that is missing is never deleted.
    quarantine_age : timedelta or None
    """

    store: Store
    spool: Spool
    objects: ObjectStore | None
    results: ResultObjects
    ages: Ages
    quarantine_age: timedelta | None
    _looked_at: float | None = field(default=None)

    def step(self, now: datetime) -> None:
        """Look once a minute.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        if self._looked_at is not None and time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        try:
            self.run(now)
        except StorageError:
            log.exception("deletions wait for the store")

    def run(self, now: datetime) -> Removed:
        """End what was begun, then delete what is due.

        Raises
        ------
        StorageError
            If the store does not answer; what was begun is ended later.
        """
        with self._alone() as is_alone:
            if not is_alone:
                return Removed(studies=0, bytes=0, quarantined=0)
            with self.store.transaction() as session:
                begun = list(keeping.begun(session))
            for deletion in begun:
                self._end(deletion)
            with self.store.transaction() as session:
                due = keeping.due(session, self.ages, now=now, limit=AT_ONCE)
            for key in due:
                deletion_or_none = self._begin(key, now)
                if deletion_or_none is not None:
                    begun.append(deletion_or_none)
                    self._end(deletion_or_none)
            quarantined = self._clear_quarantine(now)
        return Removed(
            studies=len(begun), bytes=sum(deletion.bytes for deletion in begun), quarantined=quarantined
        )

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process deletes; the lock falls with its connection."""
        # Outside a transaction: the database ends one that is idle, and a look may take hours.
        with self.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            is_ours = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}))
            try:
                yield is_ours
            finally:
                if is_ours:
                    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})

    def _begin(self, key: str, now: datetime) -> Deletion | None:
        """Decision and its proof in one transaction."""
        with self.store.transaction() as session:
            deletion = keeping.begin(session, key, self.ages, now=now)
            if deletion is not None:
                audit.append(
                    session,
                    "study.deleting",
                    actor=ACTOR,
                    study_key=key,
                    state=deletion.state.value,
                    rule_days=self.ages[deletion.state] / timedelta(days=1),
                    deliveries=deletion.deliveries,
                    waived=deletion.waived,
                    instances=len(deletion.file_names),
                    bytes=deletion.bytes,
                )
        return deletion

    def _end(self, deletion: Deletion) -> None:
        self._remove_packs(deletion)
        self._remove_received(deletion)
        self.results.remove_all(deletion.key)
        with self.store.transaction() as session:
            if keeping.end(session, deletion.key):
                audit.append(
                    session,
                    "study.deleted",
                    actor=ACTOR,
                    study_key=deletion.key,
                    instances=len(deletion.file_names),
                    packs=len(deletion.packs),
                    results=len(deletion.results),
                )
        log.info("study deleted", study=deletion.key, bytes=deletion.bytes)

    def _remove_packs(self, deletion: Deletion) -> None:
        for content_hash in deletion.packs:
            if self.objects is None:
                raise StorageAwayError("Packs are in a store that VIGIL_STORE no longer names. Set it again.")
            self.objects.remove(pack_name(deletion.key, content_hash))

    def _remove_received(self, deletion: Deletion) -> None:
        """Remove what was there when it was decided: a file that came again since is another."""
        decided_ns = int(deletion.decided_at.timestamp() * 1e9)
        paths = [self.spool.path_of(deletion.key, name) for name in deletion.file_names]
        for path in paths:
            try:
                if path.stat().st_mtime_ns <= decided_ns:
                    path.unlink()
            except FileNotFoundError:
                continue
        if paths and paths[0].parent.is_dir():
            # The empty folder stays: an association may be about to put a file into it.
            sync_folder(paths[0].parent)

    def _clear_quarantine(self, now: datetime) -> int:
        """Remove old files of the quarantine; told before they go, so that no file goes untold."""
        if self.quarantine_age is None:
            return 0
        limit = (now - self.quarantine_age).timestamp()
        old = [
            (Path(entry.path), entry.stat().st_size)
            for entry in os.scandir(self.spool.quarantined)
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime <= limit
        ]
        if old:
            with self.store.transaction() as session:
                audit.append(
                    session,
                    "quarantine.deleted",
                    actor=ACTOR,
                    files=len(old),
                    bytes=sum(size for _, size in old),
                    rule_days=self.quarantine_age / timedelta(days=1),
                )
            for path, _ in old:
                path.unlink(missing_ok=True)
            sync_folder(self.spool.quarantined)
        return len(old)

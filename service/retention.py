"""What may be deleted, when, and the proof (I11). Deletes nothing unless an age is set.

In this order, so that a kill anywhere loses and leaves nothing: the received files are taken out of their
study, and the rows say *deleting*, with the audit row that holds the proof; then the bytes go; then the rows
say *deleted*, with the audit row of that. What was begun is ended at the next step, and what was taken out
without a decision is put back. What is sent again once its file was taken out is new. One process acts at a
time.
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
from sqlalchemy.orm import Session

from dicom_node.durable import sync_folder
from dicom_node.spool import Spool
from dicom_node.withdrawn import Withdrawn
from service.errors import (
    DeletingElsewhereError,
    InstancesMissingError,
    StorageAwayError,
    StorageError,
)
from service.storage import ObjectStore, pack_name
from service.store import Store, audit, keeping
from service.store.keeping import Ages, Deletion
from service.store.objects import ResultObjects
from service.study import Whereabouts

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What one look would remove.

    Attributes
    ----------
    studies : tuple of str
        Keys.
    bytes : int
    quarantined : int
        Files.
    """

    studies: tuple[str, ...]
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
    _refused: set[str] = field(default_factory=set)

    def step(self, now: datetime) -> None:
        """Look once a minute.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        if self._looked_at is not None and time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        try:
            self.run(now)
        except DeletingElsewhereError:
            log.debug("another process deletes")
        except StorageError:
            log.exception("deletions wait")
        # Behind it: where the database went away, what was taken out is put back as soon as it answers.
        self._looked_at = time.monotonic()

    def run(self, now: datetime) -> Removed:
        """End what was begun, then delete what is due.

        Raises
        ------
        DeletingElsewhereError
            If another process does.
        StorageError
            If a study could not be deleted; the others were. What was begun is ended later.
        """
        ended: list[Deletion] = []
        failed: StorageError | None = None
        with alone(self.store) as is_alone:
            if not is_alone:
                raise DeletingElsewhereError(DeletingElsewhereError.__doc__)
            self._put_back()
            for key, begun in self._to_do(now):
                try:
                    deletion = begun or self._begin(key, now)
                    if deletion is not None:
                        self._end(deletion)
                        ended.append(deletion)
                except StorageError as error:
                    log.warning("study not deleted yet", study=key, error=str(error))
                    failed = error
            quarantined = self._clear_quarantine(self._old_quarantine(now))
        if failed is not None:
            raise failed
        return Removed(
            studies=len(ended), bytes=sum(deletion.bytes for deletion in ended), quarantined=quarantined
        )

    def foresee(self, now: datetime) -> Foreseen:
        """What `run` would remove now."""
        with self.store.transaction() as session:
            begun = keeping.begun(session)
            due = keeping.past_age(session, self.ages, now=now, limit=AT_ONCE, may_go=True)
        return Foreseen(
            studies=(*(one.key for one in begun), *(one.key for one in due)),
            bytes=sum(one.bytes for one in begun) + sum(one.bytes for one in due),
            quarantined=len(self._old_quarantine(now)),
        )

    def _to_do(self, now: datetime) -> list[tuple[str, Deletion | None]]:
        """Keys of studies to delete, with the deletion where it was begun before."""
        self._refused = {key for key in self._refused if not (self.spool.root / key).is_dir()}
        with self.store.transaction() as session:
            begun = keeping.begun(session)
            # One that was refused must not stand before the others for ever.
            due = keeping.past_age(
                session, self.ages, now=now, limit=AT_ONCE, may_go=True, besides=sorted(self._refused)
            )
        return [*((one.key, one) for one in begun), *((one.key, None) for one in due)]

    def _put_back(self) -> None:
        """Give studies their files again that were taken out before a decision that was not stored.

        And remove what a process without this spool has left of a deletion that it ended.
        """
        withdrawn = Withdrawn(self.spool)
        keys = withdrawn.keys()
        with self.store.transaction() as session:
            places = keeping.whereabouts(session, keys)
        for key in keys:
            if places.get(key, Whereabouts.HERE) is Whereabouts.HERE:
                withdrawn.put_back(key)
                log.warning("received files put back: their deletion was not decided", study=key)
            elif places[key] is Whereabouts.DELETED:
                withdrawn.remove(key)

    def _begin(self, key: str, now: datetime) -> Deletion | None:
        """Decision and its proof in one transaction, with the files taken out before anybody reads of it."""
        with self.store.transaction() as session:
            deletion = keeping.begin(session, key, self.ages, now=now)
            if deletion is not None:
                self._require_received(deletion)
                self._take_out(session, deletion)
                audit.append(  # last, for everybody else waits behind it
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

    def _take_out(self, session: Session, deletion: Deletion) -> None:
        # Thousands of files on a slow disk take longer than a transaction may be idle.
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        Withdrawn(self.spool).take_out(deletion.key, deletion.file_names)

    def _require_received(self, deletion: Deletion) -> None:
        """Refuse what cannot be done here: rows that say *deleted* of files that lie on another machine."""
        is_here = (self.spool.root / deletion.key).is_dir()
        if deletion.is_on_node and not is_here and deletion.waived is None:
            self._refused.add(deletion.key)
            raise InstancesMissingError(
                "The study has received files on the node, and the spool here has no folder of it. Delete it "
                "from the machine that has; where they are lost, allow it with `vigil studies waive`."
            )

    def _end(self, deletion: Deletion) -> None:
        self._remove_packs(deletion)
        self.results.remove_all(deletion.key)
        Withdrawn(self.spool).remove(deletion.key)
        self.spool.touch(deletion.key)  # what came meanwhile is for the intake, once this is stored
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

    def _old_quarantine(self, now: datetime) -> list[tuple[Path, int]]:
        """Files of the quarantine past its age, with their sizes."""
        if self.quarantine_age is None:
            return []
        limit = (now - self.quarantine_age).timestamp()
        return [
            (Path(entry.path), entry.stat().st_size)
            for entry in os.scandir(self.spool.quarantined)
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime <= limit
        ]

    def _clear_quarantine(self, old: list[tuple[Path, int]]) -> int:
        """Remove old files of the quarantine; told before they go, so that no file goes untold."""
        if old and self.quarantine_age is not None:
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


@contextmanager
def alone(store: Store) -> Iterator[bool]:
    """Whether nobody else deletes, nor will before the block ends; the lock falls with its connection."""
    # Outside a transaction: the database ends one that is idle, and a look may take hours.
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        is_ours = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}))
        try:
            yield is_ours
        finally:
            if is_ours:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})

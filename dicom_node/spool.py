"""The landing place of received instances: one file each, durable before the sender hears success.

::

    <root>/<study key>/<hash of the SOP Instance UID>.dcm
    <root>/.incoming/               what is being received; swept at start
    <root>/.deleting/               what deletions took out of their studies
    <root>/../quarantine/           what cannot be parsed, and second copies that differ

The folder is the index (I1, I6): nothing else has to be alive to receive, and everything that follows can
be rebuilt from it. A file that stands in a study folder is complete and never changes (I2).
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import TypeVar

from dicom_node.draft import Draft, full_disk_told, open_draft
from dicom_node.durable import make_folder, sync_folder
from dicom_node.elements import read_file_meta
from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import STUDY_KEY, instance_file_name, study_key
from dicom_node.keys import ReceivedHeader, read_header
from dicom_node.quarantine import conflict
from dicom_node.quota import quota_mark

QUARANTINE = "quarantine"  # folder beside the root; its files are `<hash>.<reason>.dcm`
CHUNK = 1024 * 1024  # bytes copied at a time
LEFT_OVER_S = 3600.0  # a file this long untouched in .incoming belongs to no living association
SYNCS = 16  # at a time, of files kept together
MOST_REMEMBERED = 10_000  # study folders known to be durable
REMEMBERED_S = 60.0  # for so long: one that is removed meanwhile, and made again, has to be synced again


_T = TypeVar("_T")


class StoreKind(StrEnum):
    """What became of an instance handed to the spool."""

    STORED = "stored"  # new, and durable
    DUPLICATE = "duplicate"  # the same data set was there before
    CONFLICT = "conflict"  # another data set holds this UID: the first stays, this one is in quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOutcome:
    """Where an instance went; in every kind its bytes are durable."""

    kind: StoreKind
    study_key: str
    file_name: str
    root: Path  # of the spool

    @property
    def path(self) -> Path:
        """Where it stands, or what holds its UID; behind a log it stands there soon."""
        return self.root / self.study_key / self.file_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledInstance:
    """One file of the spool.

    Attributes
    ----------
    path : Path
    size_bytes, mtime_ns : int
    """

    path: Path
    size_bytes: int
    mtime_ns: int

    @property
    def file_name(self) -> str:
        """Name within its study's folder."""
        return self.path.name

    def sha256(self) -> str:
        """SHA-256 of the data set as it was received, hexadecimal; the file meta is ours and left out.

        Raises
        ------
        UnreadableInstanceError
            If the file was damaged on disk.
        """
        return _data_set_digest(self.path)

    def header(self) -> ReceivedHeader:
        """Read what the intake stores of it.

        Raises
        ------
        UnreadableInstanceError
            If the file was damaged on disk: nothing unreadable gets into the spool.
        """
        return read_header(self.path)


class Spool:
    """Write-once store of received instances.

    Parameters
    ----------
    root : Path
        Made if it is not there.
    secret : bytes
        The site's, behind study keys.
    free_mark_bytes : int
        With less free space nothing more is taken.
    """

    def __init__(self, root: Path, secret: bytes, *, free_mark_bytes: int) -> None:
        self.root = root
        self._secret = secret
        self._free_mark_bytes = free_mark_bytes
        self._quarantine = root.parent / QUARANTINE
        self._quota_mark = quota_mark(root)
        self._durable_folders: dict[str, float] = {}  # by study key: until when
        self._lock = Lock()
        for folder in (root, self.incoming, self._quarantine):
            make_folder(folder)

    @property
    def incoming(self) -> Path:
        """Folder of unfinished files, on the spool's file system."""
        return self.root / ".incoming"

    @property
    def quarantined(self) -> Path:
        """Folder of what could not be stored."""
        return self._quarantine

    def has_room(self) -> bool:
        """Whether free space is above the mark, and what is here below the quota."""
        disk = os.statvfs(self.root)
        is_free = disk.f_bavail * disk.f_frsize >= self._free_mark_bytes
        return is_free and not self._quota_mark.exists()

    def key_of(self, study_uid: str) -> str:
        """Pseudonym of a study."""
        return study_key(self._secret, study_uid)

    def store(self, study_uid: str, sop_instance_uid: str, parts: Iterable[bytes]) -> StoreOutcome:
        """Keep an instance; on return it survives kill -9 and power loss.

        Parameters
        ----------
        study_uid, sop_instance_uid : str
        parts : iterable of bytes
            The Part 10 file, in pieces.

        Raises
        ------
        SpoolFullError
            If the disk has no room. Nothing is left behind.
        """
        with self.draft() as draft:
            for part in parts:
                draft.write(part)
            return self.place(draft, study_uid, sop_instance_uid)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """File that `place` or `set_aside` may keep; gone afterwards where neither did.

        Raises
        ------
        SpoolFullError
            If the disk has no room for what the block writes. Nothing is left behind.
        """
        with full_disk_told(), open_draft(self.incoming) as draft:
            yield draft

    def place(self, draft: Draft, study_uid: str, sop_instance_uid: str) -> StoreOutcome:
        """Keep a draft as an instance of a study; as `store`, whose other half is writing the draft."""
        (outcome,) = self.place_all([(draft, self.key_of(study_uid), instance_file_name(sop_instance_uid))])
        return outcome

    def place_all(self, drafts: Sequence[tuple[Draft, str, str]]) -> list[StoreOutcome]:
        """Keep drafts under their study keys and file names; all are durable on return."""
        _together(Draft.sync, [draft for draft, _, _ in drafts])
        outcomes: list[StoreOutcome] = []
        with ExitStack() as stack:
            folders: dict[str, int] = {}
            for draft, key, name in drafts:
                if key not in folders:
                    folders[key] = stack.enter_context(self._study_folder(key))
                kind = self._link(draft, folders[key], self.path_of(key, name))
                outcomes.append(StoreOutcome(kind=kind, study_key=key, file_name=name, root=self.root))
            # Also for a copy: the first may still be on its way to the disk in another thread.
            _together(os.fsync, list(folders.values()))
        self._make_folders_durable(folders)
        return outcomes

    def path_of(self, key: str, file_name: str) -> Path:
        """Where an instance stands, or will stand."""
        return self.root / key / file_name

    def _link(self, draft: Draft, folder: int, final: Path) -> StoreKind:
        while True:
            try:
                draft.link(folder, final.name)  # never replaces what another association put there
            except FileExistsError:
                kind = StoreKind.DUPLICATE if is_copy(draft.path, final) else StoreKind.CONFLICT
                if not final.exists():
                    continue  # a deletion took it out meanwhile: this one is new
                if kind is StoreKind.CONFLICT:
                    self._link_to_quarantine(draft, conflict(final.parent.name, final.name))
                return kind
            return StoreKind.STORED

    def quarantine(self, parts: Iterable[bytes], reason: str) -> Path:
        """Keep what cannot be stored, durable; the same bytes again take no more room.

        Parameters
        ----------
        parts : iterable of bytes
        reason : str
            Code, part of the file's name.

        Raises
        ------
        SpoolFullError
            If the disk has no room.
        """
        with self.draft() as draft:
            for part in parts:
                draft.write(part)
            return self.set_aside(draft, reason)

    def set_aside(self, draft: Draft, reason: str) -> Path:
        """Keep a draft in quarantine; as `quarantine`, whose other half is writing the draft."""
        draft.sync()
        return self._link_to_quarantine(draft, reason)

    def sweep(self, *, older_than_s: float = LEFT_OVER_S) -> int:
        """Remove unfinished files that no living association can own; return how many.

        Parameters
        ----------
        older_than_s : float
            Age of the last write. Another node may share the spool, so younger files are let be.
        """
        removed = 0
        for entry in os.scandir(self.incoming):
            try:
                if time.time() - entry.stat(follow_symlinks=False).st_mtime >= older_than_s:
                    Path(entry.path).unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed

    def sweep_folders(self, *, older_than_s: float = LEFT_OVER_S) -> int:
        """Remove empty study folders, which deletions leave; return how many.

        Called before anything is received: an association may be about to put a file into one.
        """
        removed = 0
        for key, changed_ns in list(self.studies()):
            if time.time_ns() - changed_ns >= older_than_s * 1e9:
                with suppress(OSError):  # not empty
                    (self.root / key).rmdir()
                    removed += 1
        return removed

    def studies(self) -> Iterator[tuple[str, int]]:
        """Key of each study, and when its folder last changed, in nanoseconds."""
        with os.scandir(self.root) as entries:
            for entry in entries:
                if STUDY_KEY.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # removed a moment ago
                        yield entry.name, entry.stat().st_mtime_ns

    def instances(self, key: str) -> list[SpooledInstance]:
        """Files of one study, first received first.

        Raises
        ------
        ValueError
            If this is no study key.
        """
        if not STUDY_KEY.fullmatch(key):
            raise ValueError("not a study key")
        found = []
        try:
            with os.scandir(self.root / key) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # removed a moment ago
                        state = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(state.st_mode):
                            path = Path(entry.path)
                            found.append(
                                SpooledInstance(
                                    path=path, size_bytes=state.st_size, mtime_ns=state.st_mtime_ns
                                )
                            )
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda instance: (instance.mtime_ns, instance.file_name))

    def touch(self, key: str) -> None:
        """Let a study's folder be looked at again."""
        with suppress(FileNotFoundError):
            os.utime(self.root / key)

    def sync(self, keys: Iterable[str]) -> None:
        """Make what is seen in study folders survive power loss: a file may stand there a moment before."""
        for key in keys:
            sync_folder(self.root / key)
        sync_folder(self.root)

    @contextmanager
    def _study_folder(self, key: str) -> Iterator[int]:
        """Descriptor of a study's folder, made where it is missing."""
        folder = self.root / key
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            folder.mkdir(exist_ok=True, mode=0o700)
            with self._lock:
                self._durable_folders.pop(key, None)  # the one we knew was swept
            descriptor = os.open(folder, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _link_to_quarantine(self, draft: Draft, reason: str) -> Path:
        with draft.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        final = self._quarantine / f"{digest[:32]}.{reason}.dcm"
        folder = os.open(self._quarantine, os.O_RDONLY)
        try:
            with suppress(FileExistsError):
                draft.link(folder, final.name)
            os.fsync(folder)
        finally:
            os.close(folder)
        return final

    def _make_folders_durable(self, keys: Iterable[str]) -> None:
        """Sync the root for study folders whose names may be new, before anyone hears success."""
        now = time.monotonic()
        with self._lock:
            new = [key for key in keys if self._durable_folders.get(key, 0.0) <= now]
        if not new:
            return
        sync_folder(self.root)
        with self._lock:
            if len(self._durable_folders) + len(new) > MOST_REMEMBERED:
                self._durable_folders.clear()
            self._durable_folders.update(dict.fromkeys(new, now + REMEMBERED_S))


def _together(sync: Callable[[_T], None], many: Sequence[_T]) -> None:
    """Sync many at once: a journal commits all that wait for it, so sixteen take little longer than one."""
    if len(many) <= 1:
        for one in many:
            sync(one)
        return
    with ThreadPoolExecutor(SYNCS) as pool:
        list(pool.map(sync, many))


def parts_of(path: Path) -> Iterator[bytes]:
    """Content of a file, piece by piece."""
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            yield part


def is_copy(draft: Path, final: Path) -> bool:
    """Whether two files hold the same data set; one that the disk has damaged is a copy of nothing."""
    try:
        kept = _data_set_digest(final)
    except (UnreadableInstanceError, OSError):
        return False
    return kept == _data_set_digest(draft)


def _data_set_digest(path: Path) -> str:
    with path.open("rb") as file:
        read_file_meta(file)
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

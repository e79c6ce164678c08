"""Result objects: ``<study key>/<sha256>.dcm``, durable before their rows are, checked when they are read."""

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from dicom_node.draft import open_draft
from dicom_node.durable import sync_folder
from dicom_node.pack import Readable
from dicom_node.web.listing import listing_of
from service.errors import ObjectDamagedError, ObjectMissingError, ScratchFullError
from service.storage import CHUNK, ObjectStore, keep
from service.storage.scratch import Scratch
from service.store.results import StoredResult

if TYPE_CHECKING:
    from dicom_node.results import BuiltResult

REMEMBERED = 8  # objects of a store that the pages keep at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMap:
    """File of an anomaly map, which is no DICOM object and is sent nowhere."""

    path: str
    sha256: str
    bytes: int


class LocalObjects(Protocol):
    """Result objects as files of this machine."""

    def local(self, path: str, sha256: str, size: int) -> AbstractContextManager[Path]:
        """File of an object on this machine.

        Raises
        ------
        StorageError
            If it is not there, or not what was written.
        """


class ResultObjects(LocalObjects, Protocol):
    """Where result objects are kept; read, their bytes are checked."""

    def keep(self, study_key: str, built: Sequence["BuiltResult"]) -> tuple[StoredResult, ...]:
        """Write objects so that they survive power loss; writing the same object again changes nothing."""

    def keep_map(self, study_key: str, content: bytes) -> "KeptMap":
        """Write an anomaly map as an object is written; it goes with the results of its study."""

    def remove_all(self, study_key: str) -> None:
        """Remove every object of a study, also what an attempt kept that was not the one to be stored."""


@dataclass(frozen=True, slots=True)
class ResultFolder:
    """Result objects in a folder.

    Attributes
    ----------
    root : Path
    """

    root: Path

    def keep(self, study_key: str, built: Sequence["BuiltResult"]) -> tuple[StoredResult, ...]:
        """Write objects so that they survive power loss; writing the same object again changes nothing."""
        stored = []
        with self._writing(study_key) as write:
            for result, content in _encoded(built):
                stored.append(_stored(study_key, result, content))
                write(stored[-1].path, content)
        return tuple(stored)

    def keep_map(self, study_key: str, content: bytes) -> KeptMap:
        """Write an anomaly map so that it survives power loss."""
        kept = _kept_map(study_key, content)
        with self._writing(study_key) as write:
            write(kept.path, content)
        return kept

    @contextmanager
    def local(self, path: str, sha256: str, size: int) -> Iterator[Path]:  # noqa: ARG002 - the protocol's
        """File of an object, its bytes checked."""
        file = _inside(self.root, path)
        if _sha256_of(file) != sha256:
            raise ObjectDamagedError(
                "The result's file is not the one that was written. Look after the disk."
            )
        yield file

    @contextmanager
    def _writing(self, study_key: str) -> Iterator[Callable[[str, bytes], None]]:
        """Writer of files of a study, durable at the end of the block."""
        folder = self.root / study_key
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield lambda path, content: _write(folder, descriptor, Path(path).name, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self.root)

    def remove_all(self, study_key: str) -> None:
        """Remove every object of a study and what a kill left of one."""
        folder = self.root / study_key
        with suppress(FileNotFoundError):
            for file in list(folder.iterdir()):
                file.unlink(missing_ok=True)
            sync_folder(folder)
            with suppress(OSError):  # not empty: a late attempt keeps something
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class ResultStore:
    """Result objects in a store that all machines see.

    Attributes
    ----------
    store : ObjectStore
    scratch : Scratch
        For objects in hand.
    before : ResultFolder
        Where this machine kept them before the site had a store.
    """

    store: ObjectStore
    scratch: Scratch
    before: ResultFolder

    def keep(self, study_key: str, built: Sequence["BuiltResult"]) -> tuple[StoredResult, ...]:
        """Write objects and read them back; writing the same object again changes nothing."""
        stored = []
        for result, content in _encoded(built):
            stored.append(_stored(study_key, result, content))
            keep(self.store, _name(stored[-1].path), [content])
        return tuple(stored)

    def keep_map(self, study_key: str, content: bytes) -> KeptMap:
        """Write an anomaly map and read it back."""
        kept = _kept_map(study_key, content)
        keep(self.store, _name(kept.path), [content])
        return kept

    @contextmanager
    def local(self, path: str, sha256: str, size: int) -> Iterator[Path]:
        """Copy of an object on this machine, its bytes checked, gone after the block."""
        with self.scratch.folder(size) as folder:
            file = folder / f"{sha256[:32]}.dcm"
            try:
                with self.store.open(_name(path)) as source:
                    _copy(source, file, size)
            except ObjectMissingError:
                with self.before.local(path, sha256, size) as older:
                    yield older
                return
            if _sha256_of(file) != sha256:
                raise ObjectDamagedError(
                    "The store has other bytes than the result that was written. Look after its disks."
                )
            yield file

    def remove_all(self, study_key: str) -> None:
        """Remove every object of a study."""
        self.store.remove_all(_name(study_key))
        self.before.remove_all(study_key)


@dataclass(frozen=True, slots=True)
class AtHand:
    """Objects of a store for a screen, which asks for many frames of one: the last few stay on this machine.

    Attributes
    ----------
    objects : ResultStore
    """

    objects: ResultStore
    _open: OrderedDict[str, tuple[ExitStack, Path]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def local(self, path: str, sha256: str, size: int) -> Iterator[Path]:
        """File of an object, its bytes checked when it came."""
        with self._lock:  # nobody takes the file away while it is read
            if path in self._open:
                self._open.move_to_end(path)
            else:
                with ExitStack() as stack:
                    file = stack.enter_context(self.objects.local(path, sha256, size))
                    self._open[path] = (stack.pop_all(), file)
                if len(self._open) > REMEMBERED:
                    self._open.popitem(last=False)[1][0].close()
            yield self._open[path][1]


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Objects of a folder for a screen: each frame is a request, and a check would read the whole each time.

    Attributes
    ----------
    root : Path
    """

    root: Path

    @contextmanager
    def local(self, path: str, sha256: str, size: int) -> Iterator[Path]:  # noqa: ARG002 - the protocol's
        """File of an object, which need not be there."""
        yield _inside(self.root, path)


def _write(folder: Path, descriptor: int, name: str, content: bytes) -> None:
    """Put a file in place as a whole, from a draft without a name: a kill leaves nothing behind."""
    with open_draft(folder) as draft:
        draft.write(content)
        draft.sync()
        try:
            draft.link(descriptor, name)
        except FileExistsError:
            if _sha256_of(folder / name) == hashlib.sha256(content).hexdigest():
                return
            (folder / name).unlink(missing_ok=True)  # damaged since it was written
            draft.link(descriptor, name)


def _inside(root: Path, path: str) -> Path:
    """Path of a stored result; one that leads out of the folder is not there."""
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ObjectMissingError("The result's file is not there.")
    return file


def _copy(source: Readable, file: Path, size: int) -> None:
    """Write what is read to a file, not more than there should be."""
    try:
        with file.open("xb") as target:
            while part := source.read(CHUNK):
                if target.tell() + len(part) > size:
                    raise ObjectDamagedError("The store has more bytes than the result that was written.")
                target.write(part)
    except OSError as error:  # of our own disk: the store's failures have their own classes
        raise ScratchFullError(ScratchFullError.__doc__) from error


def _encoded(built: Sequence["BuiltResult"]) -> Iterator[tuple["BuiltResult", bytes]]:
    """Objects with their bytes, one at a time."""
    from dicom_node.results import encode  # heavy, and those that only read never need it

    for result in built:
        yield result, encode(result.dataset)


def _stored(study_key: str, result: "BuiltResult", content: bytes) -> StoredResult:
    sha256 = hashlib.sha256(content).hexdigest()
    return StoredResult(
        kind=result.kind,
        sop_class_uid=str(result.dataset.SOPClassUID),
        sop_instance_uid=str(result.dataset.SOPInstanceUID),
        path=f"{study_key}/{sha256[:32]}.dcm",
        sha256=sha256,
        bytes=len(content),
        listing=listing_of(io.BytesIO(content)),
    )


def _kept_map(study_key: str, content: bytes) -> KeptMap:
    sha256 = hashlib.sha256(content).hexdigest()
    return KeptMap(path=f"{study_key}/{sha256[:32]}.nii.gz", sha256=sha256, bytes=len(content))


def _name(path: str) -> str:
    return f"results/{path}"


def _sha256_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ObjectMissingError("The result's file cannot be read.") from error

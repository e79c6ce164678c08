"""Instances in hand as files of this machine: out of the spool, a pack, or the results."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from dicom_node.errors import NewerPackError, UnreadableInstanceError
from dicom_node.pack import Place, read_places
from dicom_node.spool import SpooledInstance
from service.errors import (
    InstancesMissingError,
    NewerObjectError,
    ObjectDamagedError,
    ObjectMissingError,
    ScratchFullError,
)
from service.storage import CHUNK, ObjectStore, pack_name
from service.storage.scratch import Scratch
from service.store.held import Held
from service.store.objects import LocalObjects

REMEMBERED = 16  # files fetched from a store that stay at hand: a viewer asks for many frames of one
MOST_INDICES = 64  # of packs; some hundred bytes for an instance


@dataclass(slots=True)
class _Fetched:
    """A file at hand, and how many read it."""

    path: Path
    stack: ExitStack
    readers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Brings single instances to this machine.

    Attributes
    ----------
    spool_folder : Path
    results : LocalObjects
    objects : ObjectStore or None
        Where packs are; None at a site whose machines read one spool.
    scratch : Scratch or None
        For what is in hand; needed with `objects`.
    """

    spool_folder: Path
    results: LocalObjects
    objects: ObjectStore | None = None
    scratch: Scratch | None = None
    _fetched: OrderedDict[tuple[str, str], _Fetched] = field(default_factory=OrderedDict)
    _indices: OrderedDict[str, dict[str, Place]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def local(self, held: Held, *, is_checked: bool = False) -> Iterator[Path]:
        """File of an instance, for as long as the block lasts.

        Parameters
        ----------
        held : Held
        is_checked : bool
            Compare all of its bytes with the row before. What comes out of a store is compared in any case.

        Raises
        ------
        StorageError
            If it cannot be had as it was received or made.
        """
        if held.result_path is not None:
            with self.results.local(held.result_path, held.sha256, held.bytes) as path:
                if is_checked:
                    _check_result(path, held)
                yield path
            return
        path = self.spool_folder / held.study_key / str(held.file_name)
        if path.exists():
            if is_checked:
                _check_received(path, held)
            yield path
            return
        with self._out_of_pack(held) as path:
            yield path

    @contextmanager
    def _out_of_pack(self, held: Held) -> Iterator[Path]:
        if held.pack is None or self.objects is None or self.scratch is None:
            raise InstancesMissingError(InstancesMissingError.__doc__)
        name = (held.study_key, str(held.file_name))
        fetched = self._take(name, held, self.objects, self.scratch)
        try:
            yield fetched.path
        finally:
            self._give_back(fetched)

    def _take(self, name: tuple[str, str], held: Held, objects: ObjectStore, scratch: Scratch) -> _Fetched:
        with self._lock:
            if name in self._fetched:
                self._fetched.move_to_end(name)
                self._fetched[name].readers += 1
                return self._fetched[name]
        with ExitStack() as stack:
            folder = stack.enter_context(scratch.folder(held.bytes))
            path = folder / name[1]
            self._fetch(held, objects, path)
            _check_received(path, held)
            fetched = _Fetched(path, stack.pop_all(), readers=1)
        with self._lock:
            if name not in self._fetched:  # else another was first, and this copy goes with its reader
                self._fetched[name] = fetched
        return fetched

    def _give_back(self, fetched: _Fetched) -> None:
        """Let files go that nobody reads, the longest unused first."""
        with self._lock:
            fetched.readers -= 1
            idle = [name for name, one in self._fetched.items() if not one.readers]
            gone = [self._fetched.pop(name) for name in idle[: max(len(self._fetched) - REMEMBERED, 0)]]
            if not fetched.readers and not any(one is fetched for one in (*self._fetched.values(), *gone)):
                gone.append(fetched)
        for one in gone:
            one.stack.close()

    def _fetch(self, held: Held, objects: ObjectStore, path: Path) -> None:
        """Copy one instance out of its pack: the index, then a range."""
        name = pack_name(held.study_key, str(held.pack))
        try:
            place = self._places(name, objects)[path.name]
            left = place.length
            with objects.open_at(name, place.start) as source, path.open("xb") as target:
                while left:
                    part = source.read(min(left, CHUNK))
                    if not part or left > held.bytes:
                        raise ObjectDamagedError(ObjectDamagedError.__doc__)
                    target.write(part)
                    left -= len(part)
        except KeyError:
            raise InstancesMissingError(InstancesMissingError.__doc__) from None
        except NewerPackError as error:
            raise NewerObjectError(str(error)) from error
        except UnreadableInstanceError as error:
            raise ObjectDamagedError(ObjectDamagedError.__doc__) from error
        except OSError as error:  # of our own disk: the store's failures have their own classes
            raise ScratchFullError(ScratchFullError.__doc__) from error

    def _places(self, name: str, objects: ObjectStore) -> dict[str, Place]:
        """Index of a pack, which never changes under its name."""
        with self._lock:
            if name in self._indices:
                self._indices.move_to_end(name)
                return self._indices[name]
        with objects.open_at(name, 0) as source:
            places = read_places(source)
        with self._lock:
            self._indices[name] = places
            if len(self._indices) > MOST_INDICES:
                self._indices.popitem(last=False)
        return places


def _check_received(path: Path, held: Held) -> None:
    try:
        found = SpooledInstance(path=path, size_bytes=0, mtime_ns=0).sha256()
    except (UnreadableInstanceError, OSError):
        raise ObjectDamagedError(ObjectDamagedError.__doc__) from None
    if held.sha256 and found != held.sha256:
        raise ObjectDamagedError(ObjectDamagedError.__doc__)


def _check_result(path: Path, held: Held) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ObjectMissingError("The result's file cannot be read.") from error
    if found != held.sha256:
        raise ObjectDamagedError("The result's file is not the one that was written. Look after the disk.")

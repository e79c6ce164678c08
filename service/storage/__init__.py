"""Where complete studies and result objects are kept for all machines: a shared folder or a bucket.

A name is a path of plain parts, ``packs/<study key>/<content hash>.tar``; no identity is in it. An object is
there as a whole or not at all, and one that is there is never changed.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from dicom_node.pack import Readable
from service.errors import ObjectMissingError, StorageAwayError

CHUNK = 1024 * 1024  # bytes in memory at a time


class ObjectStore(Protocol):
    """A place for whole objects.

    Every call raises `ObjectMissingError` where the object is not there, and `StorageAwayError` where the
    place does not answer, refuses, or is full.
    """

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Keep an object under a name. The same bytes again change nothing, wherever an earlier try ended."""

    def open(self, name: str) -> AbstractContextManager[Readable]:
        """Object to be read forward."""

    def open_at(self, name: str, start: int) -> AbstractContextManager[Readable]:
        """Object to be read forward from one of its bytes on; no more is fetched than is read."""

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is removed already."""

    def remove_all(self, folder: str) -> None:
        """Remove every object whose name begins with a folder's and a slash."""

    def sweep(self) -> int:
        """Remove what interrupted tries left and nobody goes on with; return how many."""


@dataclass(frozen=True, slots=True)
class Told:
    """An open object whose reading raises the store's errors; what its reader does with the bytes is its own.

    Attributes
    ----------
    source : Readable
    told : callable
        Context that translates errors.
    """

    source: Readable
    told: Callable[[], AbstractContextManager[None]]

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        with self.told():
            return self.source.read(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object that was written and read back.

    Attributes
    ----------
    sha256 : str
        Hexadecimal.
    bytes : int
    """

    sha256: str
    bytes: int


def pack_name(study_key: str, content_hash: str) -> str:
    """Name of the pack of a revision."""
    return f"packs/{study_key}/{content_hash}.tar"


def keep(store: ObjectStore, name: str, parts: Iterable[bytes]) -> Kept:
    """Write an object and read it back: what this returns is there, whole.

    Raises
    ------
    StorageAwayError
        If the store does not take it, or gives back other bytes.
    """
    meter = _Meter()
    try:
        store.put(name, meter.over(parts))
        written = meter.kept()
        if read(store, name) == written:
            return written
        store.remove(name)
    except ObjectMissingError as error:  # of what is being written: there is no place for it
        raise StorageAwayError("The store does not keep what is written. Check VIGIL_STORE.") from error
    raise StorageAwayError("The store gave back other bytes than were written. Look after its disks.")


def read(store: ObjectStore, name: str) -> Kept:
    """Read an object to its end."""
    meter = _Meter()
    with store.open(name) as source:
        for _ in meter.over(iter(lambda: source.read(CHUNK), b"")):
            pass
    return meter.kept()


class _Meter:
    """Hashes and counts what passes."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._bytes = 0

    def over(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in parts:
            self._digest.update(part)
            self._bytes += len(part)
            yield part

    def kept(self) -> Kept:
        return Kept(sha256=self._digest.hexdigest(), bytes=self._bytes)

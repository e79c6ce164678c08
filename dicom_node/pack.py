"""A complete study as one object: an uncompressed tar that workers and object storage read in one go.

Any tar reads it. The same instances give the same bytes: members are sorted by name and carry no time and no
owner. The first member lists the others with their place, so one read of the beginning, and one range, give
any instance without walking the rest. It also names its format: a later one is refused.
"""

import hashlib
import json
import os
import re
import secrets
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_node.durable import sync_folder
from dicom_node.errors import NewerPackError, UnreadableInstanceError
from dicom_node.spool import SpooledInstance

INDEX = "index.json"
FORMAT = 1
CHUNK = 1024 * 1024  # bytes in memory at a time
_LARGEST_INDEX = 64 * 1024 * 1024  # bytes; some hundred for an instance
_OFFSET_DIGITS = 15  # of fixed width, so that the index has its size before the places are known
_NAME = re.compile(r"[0-9A-Za-z_-]{1,80}(\.[0-9A-Za-z]{1,8})?")  # a plain file name, never a path
_END = b"\0" * (2 * tarfile.BLOCKSIZE)


class Readable(Protocol):
    """What can be read forward: a file, or an object on its way from a store."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an instance's Part 10 file lies in a pack, in bytes."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What was read of a pack.

    Attributes
    ----------
    sha256 : str
        Of the whole pack, hexadecimal.
    bytes : int
    names : tuple of str
        Files written.
    """

    sha256: str
    bytes: int
    names: tuple[str, ...]


def pack_parts(instances: Sequence[SpooledInstance]) -> Iterator[bytes]:
    """Bytes of a pack, in pieces of at most a megabyte; nothing of it need be held.

    Parameters
    ----------
    instances : sequence of SpooledInstance
        Of one study, each file name once, in any order.

    Raises
    ------
    OSError
        If an instance cannot be read, or is shorter than it was.
    """
    ordered = sorted(instances, key=lambda instance: instance.file_name)
    index = _index(ordered)
    yield _member(INDEX, len(index))
    yield from (index[at : at + CHUNK] for at in range(0, len(index), CHUNK))
    yield _padding(len(index))
    for instance in ordered:
        yield _member(instance.file_name, instance.size_bytes)
        with instance.path.open("rb") as source:
            yield from _exactly(source, instance.size_bytes)
        yield _padding(instance.size_bytes)
    yield _END


def write_pack(instances: Sequence[SpooledInstance], path: Path) -> Path:
    """Pack instances of a study; on return the pack survives power loss under its name.

    Parameters
    ----------
    instances : sequence of SpooledInstance
        Of one study, each file name once.
    path : Path
        Replaced as a whole if it is there.

    Raises
    ------
    OSError
        If an instance cannot be read, changed its size, or the disk has no room. Nothing is left behind.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            for part in pack_parts(instances):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path


def unpack(source: Readable, folder: Path, *, most_bytes: int) -> Unpacked:
    """Write every instance of a pack into a folder, in one read of the pack.

    Parameters
    ----------
    source : Readable
        Read to its end, never backwards.
    folder : Path
        Holds what was written when this raises, too.
    most_bytes : int
        No more is read or written than this.

    Raises
    ------
    NewerPackError
        If a later release wrote it.
    UnreadableInstanceError
        If this is no pack, it is cut short, or it is larger than `most_bytes`.
    """
    stream = _Stream(source, most_bytes)
    places = _read_index(stream)
    for name, place in sorted(places.items(), key=lambda item: item[1].start):
        stream.skip(place.start - stream.at)
        with (folder / name).open("xb") as file:
            for part in stream.parts(place.length):
                file.write(part)
    stream.drain()
    return Unpacked(sha256=stream.digest.hexdigest(), bytes=stream.at, names=tuple(places))


def read_places(source: Readable) -> dict[str, Place]:
    """Where each instance lies in a pack, by its file name; only the beginning of the pack is read.

    Raises
    ------
    NewerPackError
        If a later release wrote it.
    UnreadableInstanceError
        If this is no pack.
    """
    return _read_index(_Stream(source, _LARGEST_INDEX))


class Pack:
    """Reader of a pack.

    Parameters
    ----------
    path : Path

    Raises
    ------
    NewerPackError
        If a later release wrote it.
    UnreadableInstanceError
        If this is no pack.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self.places = read_places(file)

    def read(self, file_name: str) -> bytes:
        """Part 10 file of an instance, by one range.

        Raises
        ------
        KeyError
            If the pack has no such instance.
        UnreadableInstanceError
            If the pack is shorter than it says.
        """
        place = self.places[file_name]
        with self._path.open("rb") as file:
            file.seek(place.start)
            content = file.read(place.length)
        if len(content) < place.length:
            raise UnreadableInstanceError("The pack is cut short.")
        return content


class _Stream:
    """A pack read forward, hashed on the way, never further than allowed."""

    def __init__(self, source: Readable, most_bytes: int) -> None:
        self.at = 0
        self.digest = hashlib.sha256()
        self._source = source
        self._most_bytes = most_bytes

    def parts(self, length: int) -> Iterator[bytes]:
        """Exactly `length` bytes."""
        if length < 0 or self.at + length > self._most_bytes:
            raise UnreadableInstanceError("The pack says it holds more than it may.")
        while length:
            part = self._source.read(min(length, CHUNK))
            if not part:
                raise UnreadableInstanceError("The pack is cut short.")
            self.at += len(part)
            self.digest.update(part)
            length -= len(part)
            yield part

    def read(self, length: int) -> bytes:
        return b"".join(self.parts(length))

    def skip(self, length: int) -> None:
        for _ in self.parts(length):
            pass

    def drain(self) -> None:
        """Read what is left, so that the hash is the whole pack's."""
        while part := self._source.read(CHUNK):
            self.at += len(part)
            if self.at > self._most_bytes:
                raise UnreadableInstanceError("The pack is longer than it may be.")
            self.digest.update(part)


def _index(ordered: Sequence[SpooledInstance]) -> bytes:
    """Format, and names, starts and lengths; its own size is the same whatever the starts are."""

    def encode(starts: Sequence[int]) -> bytes:
        entries = [
            [instance.file_name, f"{start:0{_OFFSET_DIGITS}d}", instance.size_bytes]
            for instance, start in zip(ordered, starts, strict=True)
        ]
        return json.dumps({"format": FORMAT, "instances": entries}, separators=(",", ":")).encode()

    at = tarfile.BLOCKSIZE + _whole_blocks(len(encode([0] * len(ordered))))
    starts = []
    for instance in ordered:
        starts.append(at + tarfile.BLOCKSIZE)
        at = starts[-1] + _whole_blocks(instance.size_bytes)
    return encode(starts)


def _read_index(stream: _Stream) -> dict[str, Place]:
    try:
        member = tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "ascii", "strict")
        if member.name != INDEX or member.size > _LARGEST_INDEX:
            raise UnreadableInstanceError("The file is no pack of a study.")
        index = json.loads(stream.read(member.size))
        if index["format"] > FORMAT:
            raise NewerPackError(
                f"The pack is of format {index['format']}, this release reads up to {FORMAT}. "
                "Update Vigil on this machine, then replay the study."
            )
        places = {
            name: Place(start=int(start), length=int(length)) for name, start, length in index["instances"]
        }
    except (tarfile.TarError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableInstanceError("The file is no pack of a study.") from error
    if len(places) != len(index["instances"]) or not all(_NAME.fullmatch(name) for name in places):
        raise UnreadableInstanceError("The pack names its instances wrongly.")
    return places


def _member(name: str, size: int) -> bytes:
    """Header of a member."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _exactly(source: Readable, length: int) -> Iterator[bytes]:
    while length:
        part = source.read(min(length, CHUNK))
        if not part:
            raise OSError("unexpected end of data")
        length -= len(part)
        yield part


def _padding(size: int) -> bytes:
    return b"\0" * (_whole_blocks(size) - size)


def _whole_blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

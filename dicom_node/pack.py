"""A complete study as one object: an uncompressed tar that workers and object storage read in one go.

Any tar reads it. The same instances give the same bytes: members are sorted by name and carry no time and no
owner. The first member lists the others with their place, so one read of the beginning, and one range, give
any instance without walking the rest.
"""

import io
import json
import os
import secrets
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable import sync_folder
from dicom_node.errors import UnreadableInstanceError
from dicom_node.spool import SpooledInstance

INDEX = "index.json"
_LARGEST_INDEX = 64 * 1024 * 1024  # bytes; some hundred for an instance
_OFFSET_DIGITS = 15  # of fixed width, so that the index has its size before the places are known


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an instance's Part 10 file lies in a pack, in bytes."""

    start: int
    length: int


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
    ordered = sorted(instances, key=lambda instance: instance.file_name)
    index = _index(ordered)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                tar.addfile(_member(INDEX, len(index)), io.BytesIO(index))
                for instance in ordered:
                    with instance.path.open("rb") as source:
                        tar.addfile(_member(instance.file_name, instance.size_bytes), source)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path


class Pack:
    """Reader of a pack.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UnreadableInstanceError
        If this is no pack.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.places = _read_index(path)

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


def _index(ordered: Sequence[SpooledInstance]) -> bytes:
    """List of names, starts and lengths; its own size is the same whatever the starts are."""

    def encode(starts: Sequence[int]) -> bytes:
        entries = [
            [instance.file_name, f"{start:0{_OFFSET_DIGITS}d}", instance.size_bytes]
            for instance, start in zip(ordered, starts, strict=True)
        ]
        return json.dumps(entries, separators=(",", ":")).encode()

    at = tarfile.BLOCKSIZE + _whole_blocks(len(encode([0] * len(ordered))))
    starts = []
    for instance in ordered:
        starts.append(at + tarfile.BLOCKSIZE)
        at = starts[-1] + _whole_blocks(instance.size_bytes)
    return encode(starts)


def _read_index(path: Path) -> dict[str, Place]:
    try:
        with path.open("rb") as file:
            member = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "ascii", "strict")
            if member.name != INDEX or member.size > _LARGEST_INDEX:
                raise UnreadableInstanceError("The file is no pack of a study.")
            entries = json.loads(file.read(member.size))
        return {name: Place(start=int(start), length=int(length)) for name, start, length in entries}
    except (tarfile.TarError, TypeError, ValueError) as error:
        raise UnreadableInstanceError("The file is no pack of a study.") from error


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member


def _whole_blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

"""The segments of the log: files of one size that go round between receivers and the keeper.

Their names are their state, and a rename is the only way from one state to the next, so two processes never
own the same one. Each life of a segment has a generation of its own, which its name and its records carry:
what an earlier life left in it is no record.
"""

import fcntl
import mmap
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.draft import set_direct
from dicom_node.durable import make_folder, sync_folder
from dicom_node.errors import SpoolFullError
from dicom_node.log.record import GENERATION_BYTES

SEGMENT_BYTES = 64 * 1024 * 1024
_GROWTH = 4  # times its first size that the log may grow to while a burst lasts
_DAMAGED = "damaged."
_STEP = 8 * 1024 * 1024
_NAME = re.compile(
    rf"(spare|ready-[^.]+\.0|active-[^.]+\.\d+|sealed\.\d+\.(\d+|torn))\.[0-9a-f]{{{2 * GENERATION_BYTES}}}"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment that somebody owns.

    Attributes
    ----------
    path : Path
    generation : bytes
    begun_ns : int
        When its life began.
    end : int
        Bytes that hold records; the whole file where that is not known.
    is_whole : bool
        Whether its receiver closed it in order, so that every record below `end` must be good.
    """

    path: Path
    generation: bytes
    begun_ns: int
    end: int
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What of a log should not be there for long.

    Attributes
    ----------
    oldest_s : float
        For how long the oldest segment has waited for the keeper; 0 where none waits.
    damaged : int
        Segments that were put by.
    """

    oldest_s: float
    damaged: int


def backlog(folder: Path) -> Backlog:
    """Look at a log from outside; a folder that is not there holds nothing."""
    ages, damaged = [0.0], 0
    for path in folder.glob("*"):
        damaged += path.name.startswith(_DAMAGED)
        if _NAME.fullmatch(path.name) and path.name.startswith("sealed."):
            with suppress(FileNotFoundError):  # emptied a moment ago
                ages.append(time.time() - path.stat().st_ctime)  # of the rename that handed it over
    return Backlog(oldest_s=max(ages), damaged=damaged)


class Segments:
    """The folder of segments.

    Parameters
    ----------
    folder : Path
    count : int
        Segments written in advance; more are made while a burst lasts, and given up after it.
    segment_bytes : int
    """

    def __init__(self, folder: Path, *, count: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.segment_bytes = segment_bytes
        self._folder = folder
        self._count = count
        self._lock = -1
        make_folder(folder)

    def lock(self, timeout_s: float) -> bool:
        """Whether the log is ours alone, with the processes we fork; held until all of them end."""
        if self._lock < 0:
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.1)
            else:
                return True

    def prepare(self) -> None:
        """Write what is missing of the spares; later writes then change no metadata.

        Raises
        ------
        SpoolFullError
            If the disk has no room for it.
        """
        for left_over in self._folder.glob(".*.new"):
            left_over.unlink(missing_ok=True)
        missing = self._count - len(self._all())
        for _ in range(missing):
            self._make("prepared", written=True)
        sync_folder(self._folder)

    def take(self, owner: str) -> Segment:
        """Own a spare, durable under its new name.

        Raises
        ------
        SpoolFullError
            If the log has reached its largest size, or the disk has no room.
        """
        while True:
            spare = next(iter(self._all("spare.")), None)
            if spare is None:
                if len(self._all()) >= self._count * _GROWTH:
                    raise SpoolFullError("The log is full: the disk does not keep up.")
                spare = self._make(owner, written=False)
            generation = spare.name.rsplit(".", 1)[1]
            ready = self._folder / f"ready-{owner}.0.{generation}"
            with suppress(FileNotFoundError):  # another process was faster
                spare.rename(ready)
                sync_folder(self._folder)
                return Segment(ready, bytes.fromhex(generation), 0, self.segment_bytes, is_whole=False)

    def begin(self, segment: Segment) -> Segment:
        """Begin to write to a segment that was taken. Either name is recovered, so nothing is synced."""
        owner = segment.path.name.split(".")[0].removeprefix("ready-")
        begun = time.time_ns()
        active = self._folder / f"active-{owner}.{begun}.{segment.generation.hex()}"
        segment.path.rename(active)
        return replace(segment, path=active, begun_ns=begun)

    def seal(self, segment: Segment, end: int) -> None:
        """Hand a segment over to the keeper; nothing will be written to it."""
        segment.path.rename(self._folder / f"sealed.{segment.begun_ns}.{end}.{segment.generation.hex()}")

    def abandon(self, owner: str | None = None) -> int:
        """Hand over what a dead receiver, or every receiver, left; return how many segments."""
        for draft in self._folder.glob(f".{owner or '*'}.*.new"):
            draft.unlink(missing_ok=True)
        left = [
            path
            for state in ("active-", "ready-")
            for path in self._all(state if owner is None else f"{state}{owner}.")
        ]
        for path in left:
            _, begun, generation = path.name.split(".")
            path.rename(self._folder / f"sealed.{begun}.torn.{generation}")
        return len(left)

    def sealed(self) -> list[Segment]:
        """Segments that wait for the keeper, oldest first."""
        found = []
        for path in self._all("sealed."):
            _, begun, end, generation = path.name.split(".")
            is_whole = end != "torn"
            size = int(end) if is_whole else path.stat().st_size
            found.append(Segment(path, bytes.fromhex(generation), int(begun), size, is_whole))
        return sorted(found, key=lambda segment: segment.begun_ns)

    def recycle(self, segment: Segment) -> None:
        """Begin another life of a segment whose records are files now, or give it up."""
        if len(self._all()) > self._count:
            segment.path.unlink()
        else:
            segment.path.rename(self._folder / f"spare.{_new_generation()}")

    def put_by(self, segment: Segment) -> None:
        """Keep a damaged segment for whoever will look at it; it is not used again."""
        segment.path.rename(self._folder / f"{_DAMAGED}{segment.path.name}")

    def is_at_rest(self) -> bool:
        """Whether no receiver writes."""
        return not any(path.name.startswith("active-") for path in self._all())

    def is_low(self) -> bool:
        """Whether half of what the log may grow to is in use."""
        return (len(self._all()) - len(self._all("spare."))) * 2 > self._count * _GROWTH

    def _all(self, state: str = "") -> list[Path]:
        with os.scandir(self._folder) as entries:
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
        return sorted(self._folder / name for name in names if name.startswith(state))

    def _make(self, owner: str, *, written: bool) -> Path:
        draft = self._folder / f".{owner}.{secrets.token_hex(8)}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(draft, flags, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.segment_bytes)
            if written:
                set_direct(descriptor, on=True)
                with mmap.mmap(-1, min(_STEP, self.segment_bytes)) as zeros:
                    for at in range(0, self.segment_bytes, len(zeros)):
                        os.pwrite(descriptor, zeros, at)
            os.fsync(descriptor)
        except OSError as error:
            draft.unlink()
            raise SpoolFullError("The disk has no room for the log.") from error
        finally:
            os.close(descriptor)
        final = self._folder / f"spare.{_new_generation()}"
        draft.rename(final)
        return final


def open_segment(path: Path) -> int:
    """Descriptor whose writes are durable when they return, around the page cache where that is possible."""
    flags = os.O_RDWR | os.O_DSYNC
    try:
        return os.open(path, flags | os.O_DIRECT)
    except (AttributeError, OSError):  # some systems, tmpfs and network file systems know no O_DIRECT
        return os.open(path, flags)


def _new_generation() -> str:
    return secrets.token_hex(GENERATION_BYTES)

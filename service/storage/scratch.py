"""Scratch space of a process: its own folder, bounded, gone with the process."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Lock

from service.errors import ScratchFullError

LOCK = ".lock"
LEFT_OVER_S = 60.0  # a folder that has no lock yet belongs to a process that is just starting


class Scratch:
    """Folders for work in hand, below one that only this process uses.

    Parameters
    ----------
    root : Path
        Shared by the processes of a machine.
    most_bytes : int or None
        This process never holds more. None: as much as the disk has.
    """

    def __init__(self, root: Path, *, most_bytes: int | None) -> None:
        self._root = root
        self._most_bytes = most_bytes
        self._used = 0
        self._guard = Lock()
        self._released = Condition(self._guard)
        self._row: list[object] = []  # who waits, in order
        self._own: Path | None = None
        self._lock_file: int | None = None

    @contextmanager
    def folder(self, bytes_needed: int, *, waits: bool = False) -> Iterator[Path]:
        """Empty folder with room for so much; gone at the end of the block.

        Parameters
        ----------
        bytes_needed : int
        waits : bool
            Wait, in turn, for room that others of this process hold. Only for who holds none itself.

        Raises
        ------
        ScratchFullError
            If there is no room; to who waits, if there would be none without the others either.
        """
        self._take(bytes_needed, waits=waits)
        try:
            folder = self._home() / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            with self._released:
                self._used -= bytes_needed
                self._released.notify_all()

    def sweep(self) -> int:
        """Remove the folders of processes that died; return how many."""
        removed = 0
        with suppress(FileNotFoundError):
            for entry in list(self._root.iterdir()):
                if entry != self._own and _is_abandoned(entry):
                    shutil.rmtree(entry, ignore_errors=True)
                    removed += 1
        return removed

    def close(self) -> None:
        """Remove this process's folder."""
        with self._guard:
            if self._own is not None and self._lock_file is not None:
                shutil.rmtree(self._own, ignore_errors=True)
                os.close(self._lock_file)
                self._own = self._lock_file = None

    def _take(self, bytes_needed: int, *, waits: bool) -> None:
        home = self._home()
        place = object()
        with self._released:
            if waits:
                self._row.append(place)
                try:
                    self._released.wait_for(
                        lambda: (
                            self._row[0] is place
                            # What the others are about to write is not on the disk yet.
                            and (self._used == 0 or self._has_room(home, bytes_needed, besides=self._used))
                        )
                    )
                finally:
                    self._row.remove(place)
                    self._released.notify_all()
            if not self._has_room(home, bytes_needed):
                raise ScratchFullError(ScratchFullError.__doc__)
            self._used += bytes_needed

    def _has_room(self, home: Path, bytes_needed: int, *, besides: int = 0) -> bool:
        if self._most_bytes is not None and self._used + bytes_needed > self._most_bytes:
            return False
        return bytes_needed + besides <= shutil.disk_usage(home).free

    def _home(self) -> Path:
        """Folder of this process, under a lock that falls with it."""
        with self._guard:
            if self._own is None:
                own = self._root / secrets.token_hex(8)
                own.mkdir(parents=True, mode=0o700)
                self._lock_file = os.open(own / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock_file, fcntl.LOCK_EX)
                self._own = own
            return self._own


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody alive holds the folder's lock."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            return time.time() - folder.stat().st_mtime > LEFT_OVER_S
        return False
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True

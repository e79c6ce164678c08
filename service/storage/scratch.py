"""Scratch space of a process: its own folder, bounded, gone with the process."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

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
        self._own: Path | None = None
        self._lock_file: int | None = None

    @contextmanager
    def folder(self, bytes_needed: int) -> Iterator[Path]:
        """Empty folder with room for so much; gone at the end of the block.

        Raises
        ------
        ScratchFullError
            If there is no room.
        """
        self._take(bytes_needed)
        try:
            folder = self._home() / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            with self._guard:
                self._used -= bytes_needed

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

    def _take(self, bytes_needed: int) -> None:
        free = shutil.disk_usage(self._home()).free
        with self._guard:
            is_over = self._most_bytes is not None and self._used + bytes_needed > self._most_bytes
            if is_over or bytes_needed > free:
                raise ScratchFullError(ScratchFullError.__doc__)
            self._used += bytes_needed

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

"""How much received studies take, and a mark where that is above what the site allows.

One process measures; the receiving ones, which must not wait for that, ask whether the mark is there. Files
of the spool never change, so a folder is read again only when its own time changed. What arrives between two
looks may go above the quota: it is a mark, like that of free space, and not a wall.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from dicom_node.durable import write_durably
from dicom_node.identity import STUDY_KEY

LOOK_EVERY_S = 5.0
# File systems stamp folders in ticks of some milliseconds: a folder this young may change under its stamp.
SETTLED_NS = 2_000_000_000
_SLOWEST = 20  # a look that takes a second is followed by a rest of so many
DELETING = ".deleting"  # below a spool's root: what deletions took out of their studies, and takes room still
_FULL = ".over-quota"
_USED = ".used"

log = structlog.get_logger(__name__)


class Quota:
    """Bytes below a spool.

    Parameters
    ----------
    root : Path
        The spool's; it need not be there yet.
    limit_bytes : int or None
        None: only measured.
    """

    def __init__(self, root: Path, *, limit_bytes: int | None) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._folders: dict[str, tuple[int, int]] = {}  # path: when it changed, bytes

    def begin(self) -> None:
        """Set or take away the mark before the first instance, for that of an earlier run may stand there.

        By the sum that the earlier run left: reading a large spool anew takes minutes, and the first look
        does it while instances come. Only a spool that has a limit and no such sum is read before.
        """
        used = 0 if self._limit_bytes is None else read_used(self._root)
        if used is None:
            self.measure()
        else:
            self._mark(used)

    def measure(self, *, is_over: Callable[[], bool] = lambda: False) -> int:
        """Add up what is there, leave the sum for others to read, and set or take away the mark.

        Parameters
        ----------
        is_over : callable
            Asked at every folder; a look that is over before its end leaves all as it was.
        """
        used, is_full = 0, False
        seen: dict[str, tuple[int, int]] = {}
        roots = [self._root, self._root / DELETING]
        for root in roots if roots[1].is_dir() else roots[:1]:
            for entry in _studies(root):
                if is_over():
                    return used
                with suppress(FileNotFoundError):
                    changed_ns = entry.stat().st_mtime_ns
                    known = self._folders.get(entry.path)
                    if known is None or known[0] != changed_ns or _is_young(changed_ns):
                        known = (changed_ns, _size(Path(entry.path)))
                    seen[entry.path] = known
                    used += known[1]
                    if self._is_full(used) and not is_full:
                        is_full = True
                        self._mark(used)  # however long the rest of the look takes
        self._folders = seen
        if used != read_used(self._root):
            write_durably(self._root / _USED, str(used).encode())
        self._mark(used)
        return used

    def _is_full(self, used: int) -> bool:
        return self._limit_bytes is not None and used >= self._limit_bytes

    def _mark(self, used: int) -> None:
        mark, is_full = quota_mark(self._root), self._is_full(used)
        if is_full and not mark.exists():
            mark.touch(mode=0o600)
            log.error("spool above its quota: senders are answered 0xA700", bytes=used)
        elif not is_full and mark.exists():
            mark.unlink()
            log.info("spool below its quota again", bytes=used)

    def run(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set."""
        while True:
            begun = time.monotonic()
            try:
                self.measure(is_over=stop.is_set)
            except OSError as error:
                log.warning("spool cannot be measured", error=type(error).__name__)
            if stop.wait(max(LOOK_EVERY_S, _SLOWEST * (time.monotonic() - begun))):
                return


def quota_mark(root: Path) -> Path:
    """File that is there while a spool is above its quota."""
    return root / _FULL


def read_used(root: Path) -> int | None:
    """Bytes at the last look; None where nobody looked."""
    try:
        return int((root / _USED).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _studies(root: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(root) as entries:
        yield from (entry for entry in entries if STUDY_KEY.fullmatch(entry.name))


def _is_young(changed_ns: int) -> bool:
    return time.time_ns() - changed_ns < SETTLED_NS


def _size(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)

"""How much received studies take, and a mark where that is above what the site allows.

One process measures; the receiving ones, which must not wait for that, ask whether the mark is there. Files
of the spool never change, so a folder is read again only when its own time changed. What arrives between two
looks may go above the quota: it is a mark, like that of free space, and not a wall.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import structlog

from dicom_node.durable import write_durably
from dicom_node.identity import STUDY_KEY

LOOK_EVERY_S = 5.0
# File systems stamp folders in ticks of some milliseconds: a folder this young may change under its stamp.
SETTLED_NS = 2_000_000_000
_SLOWEST = 20  # a look that takes a second is followed by a rest of so many
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
        self._folders: dict[str, tuple[int, int]] = {}  # study key: when it changed, bytes

    def measure(self) -> int:
        """Add up what is there, leave the sum for others to read, and set or take away the mark."""
        used = 0
        seen: dict[str, tuple[int, int]] = {}
        with os.scandir(self._root) as entries:
            for entry in entries:
                if STUDY_KEY.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        changed_ns = entry.stat().st_mtime_ns
                        known = self._folders.get(entry.name)
                        if known is None or known[0] != changed_ns or _is_young(changed_ns):
                            known = (changed_ns, _size(Path(entry.path)))
                        seen[entry.name] = known
                        used += known[1]
        self._folders = seen
        if used != read_used(self._root):
            write_durably(self._root / _USED, str(used).encode())
        mark = self._root / _FULL
        is_full = self._limit_bytes is not None and used >= self._limit_bytes
        if is_full and not mark.exists():
            mark.touch(mode=0o600)
            log.error("spool above its quota: senders are answered 0xA700", bytes=used)
        elif not is_full and mark.exists():
            mark.unlink()
            log.info("spool below its quota again", bytes=used)
        return used

    def run(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set."""
        while True:
            begun = time.monotonic()
            try:
                self.measure()
            except OSError as error:
                log.warning("spool cannot be measured", error=type(error).__name__)
            if stop.wait(max(LOOK_EVERY_S, _SLOWEST * (time.monotonic() - begun))):
                return


def is_over_quota(root: Path) -> bool:
    """Whether the mark is there."""
    return (root / _FULL).exists()


def read_used(root: Path) -> int | None:
    """Bytes at the last look; None where nobody looked."""
    try:
        return int((root / _USED).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _is_young(changed_ns: int) -> bool:
    return time.time_ns() - changed_ns < SETTLED_NS


def _size(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)

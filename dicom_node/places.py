"""Who is inside, counted over all processes of a node.

The table lies in memory that is shared by the processes forked after it was made. Each process writes its own
part alone and reads all of it, so nobody waits for anybody, and the part of a process that died is cleared by
the one that takes its place. Two that look at the same moment may both let one in.
"""

import hashlib
import mmap
import weakref
from threading import Lock
from typing import Any

MOST = 320  # places one process can take
_MARK_BYTES = 8


class Places:
    """Table of a node. To be made before its processes are forked.

    Parameters
    ----------
    processes : int
    """

    def __init__(self, processes: int = 1) -> None:
        self._marks = memoryview(mmap.mmap(-1, processes * MOST * _MARK_BYTES)).cast("Q")

    def of(self, process: int) -> "Part":
        """Part of one process; what a predecessor left in it is gone."""
        return Part(self._marks, process * MOST)


class Part:
    """What one process writes of a table; any thread may."""

    def __init__(self, marks: memoryview, first: int) -> None:
        self._marks = marks
        self._own = range(first, first + MOST)
        self._inside: weakref.WeakKeyDictionary[Any, weakref.finalize] = weakref.WeakKeyDictionary()  # type: ignore[type-arg]  # one parameter in the stubs, none at run time
        self._lock = Lock()
        for place in self._own:
            marks[place] = 0

    def count(self, address: str | None = None) -> int:
        """Places taken in all processes, of one address or of all."""
        marks = self._marks.tolist()
        return len(marks) - marks.count(0) if address is None else marks.count(_mark(address))

    def enter(self, owner: Any, address: str, *, most: int = MOST) -> bool:
        """Take a place until `leave`, or until the owner is gone; False where `most` are taken already."""
        with self._lock:
            free = next((place for place in self._own if not self._marks[place]), None)
            if free is None or self.count() >= most:
                return False
            self._marks[free] = _mark(address)
            self._inside[owner] = weakref.finalize(owner, self._free, free)
        return True

    def leave(self, owner: Any) -> None:
        """Give a place back; again, it changes nothing."""
        with self._lock:
            free = self._inside.pop(owner, None)
        if free is not None:
            free()

    def _free(self, place: int) -> None:
        self._marks[place] = 0


def _mark(address: str) -> int:
    """Never zero, which is a place that is free."""
    return int.from_bytes(hashlib.blake2b(address.encode(), digest_size=_MARK_BYTES).digest(), "little") | 1

"""Page-aligned memory that an instance is received into, and written from without another copy."""

import mmap
from threading import Lock

PAGE = 4096
CAPACITY = 16 * 1024 * 1024  # bytes of an instance held in memory; a larger one goes to the disk in pieces
_MARGIN = 2 * PAGE  # after it: the head of a next fragment, and zeros up to a whole page
_KEPT = 1024 * 1024  # bytes of a block at rest; what a large instance used beyond is given back
_MOST_AT_REST = 16


class Block:
    """One record page, then a Part 10 file as it grows.

    The record page is the log's: whoever writes files begins at `PAGE`. The memory is only reserved; what was
    never received into takes no room.
    """

    __slots__ = ("end", "memory", "view")

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, PAGE + CAPACITY + _MARGIN, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self.memory)
        self.end = PAGE  # of the Part 10 file

    @property
    def file(self) -> memoryview:
        """Part 10 file received so far."""
        return self.view[PAGE : self.end]

    def padded(self, start: int) -> memoryview:
        """All from `start` on, with zeros up to a whole page."""
        stop = -(-self.end // PAGE) * PAGE
        self.view[self.end : stop] = bytes(stop - self.end)
        return self.view[start:stop]


class Blocks:
    """Blocks at rest, so that a new association does not begin with cold memory."""

    def __init__(self) -> None:
        self._at_rest: list[Block] = []
        self._lock = Lock()

    def take(self) -> Block:
        """Return a block that nobody else uses."""
        with self._lock:
            return self._at_rest.pop() if self._at_rest else Block()

    def give_back(self, block: Block) -> None:
        """Let another association use the block."""
        block.memory.madvise(mmap.MADV_DONTNEED, _KEPT, len(block.memory) - _KEPT)
        with self._lock:
            if len(self._at_rest) < _MOST_AT_REST:
                self._at_rest.append(block)

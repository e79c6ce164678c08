"""What happened at the receiver, added up over all processes of a node, for metrics.

The table lies in memory that is shared by the processes forked after it was made. Each process adds to its
own row alone, so nobody waits for anybody; one that takes the place of a dead one goes on where that ended,
so that no sum ever falls.
"""

import mmap
from collections.abc import Mapping
from threading import Lock

MOST_PROCESSES = 16
_WIDTH = 8  # bytes of a number

ASSOCIATIONS = ("accepted", "rejected", "released", "aborted")
INSTANCES = (
    "stored",
    "duplicate",
    "conflict",
    "refused_full",
    "refused_unreadable",
    "refused_mismatch",
    "refused_error",
)
_NAMES = (*(f"association_{name}" for name in ASSOCIATIONS), *INSTANCES)
_PLACE = {name: place for place, name in enumerate(_NAMES)}


class Tallies:
    """Table of a node. To be made before its processes are forked.

    Parameters
    ----------
    processes : int
        Rows.
    """

    def __init__(self, processes: int = MOST_PROCESSES) -> None:
        self._processes = processes
        self._numbers = memoryview(mmap.mmap(-1, processes * len(_NAMES) * _WIDTH)).cast("Q")

    def of(self, process: int) -> "Tally":
        """Row of one process."""
        return Tally(self._numbers, process * len(_NAMES))

    def associations(self) -> Mapping[str, int]:
        """How many associations came to what, over all processes."""
        return {name: self._sum(f"association_{name}") for name in ASSOCIATIONS}

    def instances(self) -> Mapping[str, int]:
        """How many instances were answered how, over all processes."""
        return {name: self._sum(name) for name in INSTANCES}

    def _sum(self, name: str) -> int:
        numbers = self._numbers.tolist()
        return sum(numbers[_PLACE[name] :: len(_NAMES)])


class Tally:
    """What one process adds; any thread of it may."""

    def __init__(self, numbers: memoryview, first: int) -> None:
        self._numbers = numbers
        self._first = first
        self._lock = Lock()

    def add(self, name: str) -> None:
        """Count one more.

        Raises
        ------
        KeyError
            If the table has no such name.
        """
        place = self._first + _PLACE[name]
        with self._lock:
            self._numbers[place] += 1

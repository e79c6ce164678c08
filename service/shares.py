"""What several jobs of one process share: its places and its memory, the urgent first."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Shares:
    """A capacity, of which each holder has a part.

    Who asks for more than there is gets all of it: it waits until nobody else holds a part, and nobody else
    gets one before it is done. A smaller wish does not pass a larger one of the same priority, so that
    nothing waits for ever.

    Parameters
    ----------
    capacity : int
        In the unit of the wishes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._changed = threading.Condition()
        self._row: list[tuple[int, int]] = []
        self._asked = 0

    @contextmanager
    def take(self, size: int, priority: int) -> Iterator[None]:
        """Hold a part; waits until it is this wish's turn and there is enough.

        Parameters
        ----------
        size : int
        priority : int
            Higher comes first.
        """
        size = min(size, self.capacity)
        with self._changed:
            self._asked += 1
            place = (-priority, self._asked)
            self._row.append(place)
            try:
                self._changed.wait_for(lambda: min(self._row) == place and self._free >= size)
                self._free -= size
            finally:
                self._row.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()

"""Who may come in when the place is full: connections are counted before anything is read from them.

pynetdicom limits associations, and only once one is asked for. Each connection costs two threads before
that, so a peer that merely connects could take all there are. Here one address has its share, and all
together theirs.
"""

import weakref
from threading import Lock
from typing import Any

import structlog

MOST = 256  # connections of all, associated or not yet
MOST_OF_ONE_ADDRESS = 32

log = structlog.get_logger(__name__)


class Door:
    """Open connections by address.

    Parameters
    ----------
    most : int
        Connections of all addresses together.
    most_of_one : int
        Connections of one address.
    """

    def __init__(self, *, most: int = MOST, most_of_one: int = MOST_OF_ONE_ADDRESS) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._inside: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._lock = Lock()
        self._is_told = False

    def admits(self, address: str) -> bool:
        """Whether one more connection may come from an address. Says so once, not once for each refused."""
        with self._lock:
            inside = list(self._inside.values())
            is_free = len(inside) < self._most and inside.count(address) < self._most_of_one
            if not is_free and not self._is_told:
                log.warning(
                    "connections refused: too many are open", of_one=inside.count(address), of_all=len(inside)
                )
            self._is_told = not is_free
        return is_free

    def enter(self, association: Any, address: str) -> None:
        """Count a connection that was let in, by its association."""
        with self._lock:
            self._inside[association] = address

    def leave(self, association: Any) -> None:
        """Give its place back; again, it changes nothing."""
        with self._lock:
            self._inside.pop(association, None)

"""Who may come in when the place is full: connections are counted before anything is read from them.

pynetdicom limits associations, and only once one is asked for. Each connection costs two threads before
that, so a peer that merely connects could take all there are. Here one address has its share, and all
together theirs, over all processes of the node.
"""

from threading import Lock
from typing import Any

import structlog

from dicom_node.places import Part

MOST = 256  # connections of all, associated or not yet
MOST_OF_ONE_ADDRESS = 32

log = structlog.get_logger(__name__)


class Door:
    """Open connections by address.

    Parameters
    ----------
    places : Part
        Of this process.
    most : int
        Connections of all addresses together.
    most_of_one : int
        Connections of one address.
    """

    def __init__(self, places: Part, *, most: int = MOST, most_of_one: int = MOST_OF_ONE_ADDRESS) -> None:
        self._places = places
        self._most = most
        self._most_of_one = most_of_one
        self._lock = Lock()
        self._is_told = False

    def admits(self, address: str) -> bool:
        """Whether one more connection may come from an address. Says so once, not once for each refused."""
        of_all, of_one = self._places.count(), self._places.count(address)
        is_free = of_all < self._most and of_one < self._most_of_one
        with self._lock:
            is_told, self._is_told = self._is_told, not is_free
        if not is_free and not is_told:
            log.warning("connections refused: too many are open", of_one=of_one, of_all=of_all)
        return is_free

    def enter(self, association: Any, address: str) -> None:
        """Count a connection that was let in, by its association."""
        self._places.enter(association, address)

    def leave(self, association: Any) -> None:
        """Give its place back; again, it changes nothing."""
        self._places.leave(association)

"""Where results go: one file per protocol, one line in the table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dicom_node.delivery.dimse import DimseDestination
from dicom_node.peers import Peer
from dicom_node.scu import Receipt

__all__ = ["DESTINATIONS", "Destination", "Receipt", "open_destination"]


class Destination(Protocol):
    """Somewhere result objects can be sent."""

    def check(self) -> None:
        """Raise DeliveryError unless the peer answers now."""

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        """Deliver all files; one receipt per file, in order."""


DESTINATIONS: Mapping[str, Callable[[Peer, str], Destination]] = {"dimse": DimseDestination.open}


def open_destination(peer: Peer, *, calling_aet: str) -> Destination:
    """Destination of a peer by its protocol; nothing is connected yet.

    Parameters
    ----------
    peer : Peer
    calling_aet : str
        Our own AE title.
    """
    return DESTINATIONS[peer.protocol](peer, calling_aet)

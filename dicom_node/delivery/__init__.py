"""Where results go: one file per protocol, one line in the table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dicom_node.delivery.dicomweb import DicomWebDestination
from dicom_node.delivery.dimse import DimseDestination
from dicom_node.peers import Confirm, Peer, Peers
from dicom_node.scu import Receipt
from dicom_node.services.commitment import Mailbox, Reference

__all__ = ["DESTINATIONS", "Destination", "Destinations", "Receipt", "open_destination"]


class Destination(Protocol):
    """Somewhere result objects can be sent."""

    @property
    def confirm(self) -> Confirm:
        """How *delivered* becomes *stored*."""

    @property
    def commitment_s(self) -> float:
        """Seconds the report on a commitment request is waited for."""

    def check(self) -> None:
        """Raise DeliveryError unless the peer answers now."""

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        """Deliver all files; one receipt per file, in order."""

    def request_commitment(
        self, transaction_uid: str, references: Sequence[Reference], mailbox: Mailbox
    ) -> None:
        """Ask for commitment to objects; raise DeliveryError where the peer does not take the request."""

    def holds(self, path: Path) -> bool:
        """Whether the peer holds the object of a file; raise DeliveryError where it does not say."""


DESTINATIONS: Mapping[str, Callable[[Peer, str], Destination]] = {
    "dimse": DimseDestination.open,
    "dicomweb": DicomWebDestination.open,
}


def open_destination(peer: Peer, *, calling_aet: str) -> Destination:
    """Destination of a peer by its protocol; nothing is connected yet.

    Parameters
    ----------
    peer : Peer
    calling_aet : str
        Our own AE title.
    """
    return DESTINATIONS[peer.protocol](peer, calling_aet)


class Destinations(Mapping[str, Destination]):
    """Destinations of the peers file by name, as the file stands now.

    Parameters
    ----------
    peers : Peers
    calling_aet : str
        Our own AE title.
    """

    def __init__(self, peers: Peers, *, calling_aet: str) -> None:
        self._peers = peers
        self._calling_aet = calling_aet

    def __getitem__(self, name: str) -> Destination:
        for peer in self._peers.destinations:
            if peer.name == name:
                return open_destination(peer, calling_aet=self._calling_aet)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([peer.name for peer in self._peers.destinations])

    def __len__(self) -> int:
        return len(self._peers.destinations)

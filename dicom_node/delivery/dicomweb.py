"""Delivery by STOW-RS, confirmed by QIDO-RS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dicom_node.errors import DeliveryError, NotOfferedError
from dicom_node.keys import read_header
from dicom_node.peer import Confirm, Peer
from dicom_node.scu import Receipt
from dicom_node.services.commitment import Mailbox, Reference
from dicom_node.services.dicomweb import WebPeer


class DicomWebDestination:
    """A STOW-RS origin server.

    Parameters
    ----------
    peer : Peer
    web : WebPeer
    """

    def __init__(self, peer: Peer, web: WebPeer) -> None:
        self._peer = peer
        self._web = web

    @classmethod
    def open(cls, peer: Peer, _calling_aet: str) -> Self:
        """Destination of a peer; nothing is connected yet.

        Raises
        ------
        ValueError
            If the peer has no URL; the peers file does not allow such a destination.
        """
        return cls(peer, WebPeer.of(peer))

    @property
    def confirm(self) -> Confirm:
        """How *delivered* becomes *stored*."""
        return self._peer.confirm

    @property
    def commitment_s(self) -> float:
        """Seconds the report on a commitment request is waited for: there is none."""
        return 0.0

    def check(self) -> None:
        """Raise DeliveryError unless the peer answers a search now."""
        self._web.check()

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        """Send files, each in a message of its own, so that each has its own answer."""
        return [self._send(path) for path in paths]

    def request_commitment(
        self,
        transaction_uid: str,  # noqa: ARG002 - the protocol's
        references: Sequence[Reference],  # noqa: ARG002 - as above
        mailbox: Mailbox,  # noqa: ARG002 - as above
    ) -> None:
        """Raise NotOfferedError: DICOMweb has no storage commitment."""
        raise NotOfferedError("DICOMweb has no storage commitment.")

    def holds(self, path: Path) -> bool:
        """Whether the peer holds the object of a file."""
        header = read_header(path)
        return self._web.holds_instance(
            study_uid=header.study_uid,
            series_uid=header.series_uid,
            sop_instance_uid=header.sop_instance_uid,
        )

    def _send(self, path: Path) -> Receipt:
        try:
            status = self._web.store(path)
        except DeliveryError as error:
            return Receipt(path=path, status=error.status, error=error)
        return Receipt(path=path, status=status, error=None)

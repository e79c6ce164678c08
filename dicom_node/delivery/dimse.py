"""Delivery by C-STORE, confirmed by storage commitment or C-FIND."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dicom_node.keys import read_header
from dicom_node.line import Line, line_to
from dicom_node.peer import Confirm, Peer
from dicom_node.scu import Receipt, send_files, verify
from dicom_node.services.commitment import Mailbox, Reference, request_commitment
from dicom_node.services.query import holds_instance


class DimseDestination:
    """A storage SCP.

    Parameters
    ----------
    peer : Peer
    line : Line
    """

    def __init__(self, peer: Peer, line: Line) -> None:
        self._peer = peer
        self._line = line

    @classmethod
    def open(cls, peer: Peer, calling_aet: str) -> Self:
        """Destination of a peer; nothing is connected yet.

        Raises
        ------
        ValueError
            If the peer has no port; the peers file does not allow such a destination.
        """
        return cls(peer, line_to(peer, calling_aet=calling_aet))

    @property
    def confirm(self) -> Confirm:
        """How *delivered* becomes *stored*."""
        return self._peer.confirm

    @property
    def commitment_s(self) -> float:
        """Seconds the report on a commitment request is waited for."""
        return self._peer.timeouts.commitment_s

    def check(self) -> None:
        """Raise DeliveryError unless the peer answers a C-ECHO now."""
        verify(self._line)

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        """Send files; one receipt each, in order."""
        line = self._line
        return list(
            send_files(
                paths,
                host=line.host,
                port=line.port,
                calling_aet=line.calling_aet,
                called_aet=line.called_aet,
                timeouts=line.timeouts,
                certificate=line.certificate,
            )
        )

    def request_commitment(
        self, transaction_uid: str, references: Sequence[Reference], mailbox: Mailbox
    ) -> None:
        """Ask for commitment; the report comes into the mailbox."""
        request_commitment(
            self._line,
            transaction_uid=transaction_uid,
            references=references,
            peer=self._peer.name,
            mailbox=mailbox,
        )

    def holds(self, path: Path) -> bool:
        """Whether the peer holds the object of a file: C-FIND at the IMAGE level."""
        header = read_header(path)
        return holds_instance(
            self._line,
            study_uid=header.study_uid,
            series_uid=header.series_uid,
            sop_instance_uid=header.sop_instance_uid,
        )

"""Delivery by C-STORE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dicom_node.peers import Peer
from dicom_node.scu import Entity, Receipt, send_files, verify


class DimseDestination:
    """A storage SCP.

    Parameters
    ----------
    entity : Entity
    """

    def __init__(self, entity: Entity) -> None:
        self._entity = entity

    @classmethod
    def open(cls, peer: Peer, calling_aet: str) -> Self:
        """Destination of a peer; nothing is connected yet.

        Raises
        ------
        ValueError
            If the peer has no port; the peers file does not allow such a destination.
        """
        if peer.port is None:
            raise ValueError(f"peer {peer.name} has no port")
        return cls(Entity(host=peer.host, port=peer.port, calling_aet=calling_aet, called_aet=peer.aet))

    def check(self) -> None:
        """Raise DeliveryError unless the peer answers a C-ECHO now."""
        verify(self._entity)

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        """Send files; one receipt each, in order."""
        entity = self._entity
        return list(
            send_files(
                paths,
                host=entity.host,
                port=entity.port,
                calling_aet=entity.calling_aet,
                called_aet=entity.called_aet,
            )
        )

"""What Vigil tells other systems besides DICOM: one file per protocol, one line in the table."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dicom_node.channel import Channel
from dicom_node.peers import Peers
from service.messages.fhir.channel import FhirSender
from service.messages.hl7v2.channel import Hl7Sender
from service.messages.message import Message, Sender
from service.messages.webhook import Webhook

__all__ = ["SENDERS", "Message", "Sender", "Senders"]

SENDERS: Mapping[str, Callable[[Any], Sender]] = {
    "fhir": FhirSender,
    "hl7": Hl7Sender,
    "webhook": Webhook,
}


class Senders(Mapping[str, Sender]):
    """Senders of the channels of the peers file by name, as the file stands now; nothing is connected yet.

    Parameters
    ----------
    peers : Peers
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def __getitem__(self, name: str) -> Sender:
        for channel in self._told():
            if channel.name == name:
                return SENDERS[channel.protocol](channel)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([channel.name for channel in self._told()])

    def __len__(self) -> int:
        return len(self._told())

    def _told(self) -> list[Channel]:
        return [channel for channel in self._peers.channels if channel.told]

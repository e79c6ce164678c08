"""One message as a channel sends it, and what a channel can do."""

from dataclasses import dataclass
from typing import Protocol

from dicom_node.channel import Event
from dicom_node.errors import DestinationRefusedError
from service.access import Identity
from service.store.reports import DriftAlarm, Report, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message on its way out.

    Attributes
    ----------
    message_id : str
        20 characters, the same at every attempt: the receiver drops what it has.
    sequence : int
        Grows with every message: what has the larger one is newer.
    event : Event
    told : Told or DriftAlarm
        About a study, or about a scanner.
    identity : Identity or None
        Whom the study is about; None for a channel that does not name the patient, or without a study.
    """

    message_id: str
    sequence: int
    event: Event
    told: Told | DriftAlarm
    identity: Identity | None = None

    @property
    def report(self) -> Report:
        """Of the study it is about.

        Raises
        ------
        DestinationRefusedError
            If it is about none: then only a webhook can tell it.
        """
        if isinstance(self.told, DriftAlarm):
            raise DestinationRefusedError("This protocol has no message about a scanner.")
        return self.told.report


class Sender(Protocol):
    """Brings messages to one channel."""

    @property
    def names_patient(self) -> bool:
        """Whether its messages say who the patient is; only then is it told."""

    def send(self, message: Message) -> str:
        """Send one message; return the receiver's answer, raise DeliveryError where it did not take it."""

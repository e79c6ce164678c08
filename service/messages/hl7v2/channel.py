"""One receiver of HL7 v2 over MLLP: a connection a message, closed when its acknowledgement has come."""

import socket

from dicom_node.certificates import shake_hands
from dicom_node.channel import Hl7Channel
from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from service.messages.hl7v2.acknowledgement import read_acknowledgement, refusal
from service.messages.hl7v2.mllp import FrameError, Frames, framed
from service.messages.hl7v2.observation import observation
from service.messages.message import Message

LONGEST_ANSWER = 64 * 1024  # bytes


class Hl7Sender:
    """One receiver.

    Parameters
    ----------
    channel : Hl7Channel
    """

    names_patient = True

    def __init__(self, channel: Hl7Channel) -> None:
        self._channel = channel

    def send(self, message: Message) -> str:
        """Send one message; return the code of its acknowledgement.

        Raises
        ------
        DestinationBusyError
            If it may be taken later.
        DestinationRefusedError
            If it will not be taken, or nothing says whom the study is about.
        """
        identity = message.identity
        if identity is None or not (identity.patient_id or identity.accession_number):
            raise DestinationRefusedError(
                "Neither a patient id nor an accession number is known: nobody could match the message."
            )
        content = observation(message, identity, self._channel).encode()
        try:
            answer = read_acknowledgement(self._exchange(framed(content)))
        except FrameError as error:
            raise DestinationBusyError(f"The receiver did not acknowledge: {error}.") from None
        except OSError as error:
            raise DestinationBusyError(f"The receiver did not answer ({type(error).__name__}).") from None
        if answer.control_id != message.message_id:
            raise DestinationBusyError("The receiver acknowledged another message.")
        refused = refusal(answer)
        if refused is not None:
            raise refused
        return answer.code

    def _exchange(self, frame: bytes) -> bytes:
        """Send a frame and return the one that answers it."""
        timeouts, certificate = self._channel.timeouts, self._channel.certificate
        address = (self._channel.host, self._channel.port)
        with (
            socket.create_connection(address, timeout=timeouts.connect_s) as plain,
            shake_hands(plain, host=self._channel.host, certificate=certificate) as connection,
        ):
            connection.settimeout(timeouts.answer_s)
            connection.sendall(frame)
            frames = Frames(connection, longest=LONGEST_ANSWER)
            answer = frames.next(idle_s=timeouts.answer_s, whole_s=timeouts.answer_s)
        if answer is None:
            raise FrameError("connection closed")
        return answer

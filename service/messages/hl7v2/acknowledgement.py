"""Acknowledgements: what a receiver's answer means (HL7 v2.5.1 chapter 2.9, tables 0008 and 0357)."""

from dataclasses import dataclass

import hl7

from dicom_node.errors import DeliveryError, DestinationBusyError, DestinationRefusedError

ACCEPTED = frozenset({"AA", "CA"})
REJECTED = frozenset({"AR", "CR"})  # for reasons beside the content: it may be taken later
# Of table 0357: what an answer says of itself, whatever the acknowledgement code.
LATER = frozenset({"206", "207"})  # record locked, application internal error
NEVER = frozenset({"200", "201", "202", "203"})  # message type, event, processing id, version


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """An answer to a message.

    Attributes
    ----------
    code : str
        MSA-1: AA, AE, AR, CA, CE or CR.
    control_id : str
        MSA-2: the message it answers.
    error : str
        ERR-3.1 of its first error; empty where it has none.
    """

    code: str
    control_id: str
    error: str


def read_acknowledgement(frame: bytes) -> Acknowledgement:
    """Read an answer.

    Raises
    ------
    DestinationBusyError
        If it is none: what does not speak HL7 now may do so after it was mended.
    """
    try:
        message = hl7.parse(frame.decode("utf-8", errors="replace"))
        code, control_id = _field(message, "MSA", 1), _field(message, "MSA", 2)
        error = _field(message, "ERR", 3).partition("^")[0]
    except (hl7.HL7Exception, AssertionError, LookupError, ValueError) as problem:
        raise DestinationBusyError("The receiver's answer is no acknowledgement.") from problem
    return Acknowledgement(code=code, control_id=control_id, error=error)


def refusal(answer: Acknowledgement) -> DeliveryError | None:
    """Error behind an answer; None where the message was accepted.

    An error (AE, CE) is about what the message holds: a person decides. A rejection (AR, CR) is about the
    receiver: it is tried again. An error code that says more decides.
    """
    if answer.code in ACCEPTED:
        return None
    code = answer.code if answer.code.isalnum() and len(answer.code) == 2 else "nothing known"  # noqa: PLR2004 - of table 0008
    error = f", error {answer.error}" if answer.error.isdigit() else ""
    words = f"The receiver answered {code}{error}."
    is_rejection = answer.code in REJECTED or answer.code not in {"AE", "CE"}
    if answer.error in LATER or (is_rejection and answer.error not in NEVER):
        return DestinationBusyError(words)
    return DestinationRefusedError(words)


def _field(message: hl7.Message, segment: str, number: int) -> str:
    """Text of a field of the first such segment; empty where there is none."""
    found = next((one for one in message if str(one[0]) == segment), None)
    return str(found[number]).strip() if found is not None and len(found) > number else ""

"""ORM^O01 and OMI^O23: how urgent an order is, and which study it is for (HL7 v2.5.1 chapter 4).

Only that is read. What an order says of the patient is neither kept nor logged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import hl7

from dicom_node.identity import is_uid
from service.messages.hl7v2 import text
from service.study import Priority

ANSWERS = {("ORM", "O01"): "ORR^O02^ORR_O02", ("OMI", "O23"): "ORI^O24^ORI_O24"}
CANCELLED = frozenset({"CA", "OC", "DC", "OD"})  # table 0119: cancelled or discontinued, asked or done
PRIORITIES = {"S": Priority.STAT, "STAT": Priority.STAT, "A": Priority.URGENT, "ASAP": Priority.URGENT}
MOST_ORDERS = 50  # in one message
LONGEST_VALUE = 64  # characters of an accession number or a UID
USUAL = b"MSH|^~\\&"  # how a message begins; its separators are used everywhere

# Table 0357.
SEQUENCE, MISSING, BAD_VALUE, WRONG_TYPE, INTERNAL = "100", "101", "103", "200", "207"
_CHARACTERS = {"8859/1": "latin-1", "ASCII": "latin-1", "": "utf-8", text.CHARACTER_SET: "utf-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one order says.

    Attributes
    ----------
    is_cancelled : bool
    priority : Priority
    accession_number, study_uid : str
        Empty where it says none; never both.
    """

    is_cancelled: bool
    priority: Priority
    accession_number: str
    study_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What is needed to answer a message.

    Attributes
    ----------
    control_id : str
    application, facility : str
        Who sent it.
    answer : str
        Type of the message that answers it.
    """

    control_id: str = ""
    application: str = ""
    facility: str = ""
    answer: str = "ACK"


class OrderError(Exception):
    """A message that cannot be taken.

    Parameters
    ----------
    code : str
        MSA-1: AE where it is about the content, AR where it is about anything else.
    error : str
        Of table 0357.
    words : str
        For a person, free of what the message holds.
    """

    def __init__(self, code: str, error: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.error = error


def read_message(frame: bytes) -> hl7.Message:
    """Read a frame.

    Raises
    ------
    OrderError
        If it holds no HL7 message.
    """
    if not frame.startswith(USUAL):
        raise OrderError("AR", SEQUENCE, "This is no HL7 message with the usual separators.")
    try:
        found = hl7.parse(frame.decode("latin-1").replace("\n", "\r"))
        charset = _field(found, "MSH", 18).partition("~")[0].strip().upper()
        content = frame.decode(_CHARACTERS.get(charset, "utf-8"), errors="replace")
        return hl7.parse(content.replace("\r\n", "\r").replace("\n", "\r"))
    except (hl7.HL7Exception, AssertionError, LookupError, ValueError, TypeError) as error:
        raise OrderError("AR", SEQUENCE, "This is no HL7 message.") from error


def envelope_of(message: hl7.Message) -> Envelope:
    """Who sent a message, and how it is answered."""
    kind = _component(message, "MSH", 9, 1), _component(message, "MSH", 9, 2)
    return Envelope(
        control_id=_component(message, "MSH", 10)[:LONGEST_VALUE],
        application=_component(message, "MSH", 3)[:LONGEST_VALUE],
        facility=_component(message, "MSH", 4)[:LONGEST_VALUE],
        answer=ANSWERS.get(kind, "ACK"),
    )


def orders_of(message: hl7.Message, accession_field: int) -> list[Order]:
    """Return the orders of a message.

    Parameters
    ----------
    message : hl7.Message
    accession_field : int
        Field of OBR that holds the accession number where IPC-1 does not.

    Raises
    ------
    OrderError
        If it is of another type, or an order does not say which study it is for.
    """
    kind = _component(message, "MSH", 9, 1), _component(message, "MSH", 9, 2)
    if kind not in ANSWERS:
        raise OrderError("AR", WRONG_TYPE, "Only ORM^O01 and OMI^O23 are taken.")
    groups = list(_groups(message))
    if not groups:
        raise OrderError("AE", SEQUENCE, "The message has no ORC and no OBR segment.")
    if len(groups) > MOST_ORDERS:
        raise OrderError("AE", BAD_VALUE, f"The message has more than {MOST_ORDERS} orders.")
    return [_order(group, accession_field) for group in groups]


def answer_to_message(envelope: Envelope, *, code: str = "AA", error: OrderError | None = None) -> str:
    """Write the answer to a message."""
    now = datetime.now(UTC)
    segments = [
        text.header(
            {
                3: "VIGIL",
                5: text.text(envelope.application),
                6: text.text(envelope.facility),
                7: text.timestamp(now),
                9: envelope.answer,
                10: now.strftime("%Y%m%d%H%M%S%f"),
                11: "P",
                12: "2.5.1",
                18: text.CHARACTER_SET,
            }
        ),
        text.segment("MSA", {1: error.code if error else code, 2: text.text(envelope.control_id)}),
    ]
    if error is not None:
        segments.append(
            text.segment(
                "ERR", {3: text.composite(error.error, "", "HL70357"), 4: "E", 8: text.text(str(error))}
            )
        )
    return "".join(f"{segment}\r" for segment in segments)


def _groups(message: hl7.Message) -> Iterator[hl7.Message]:
    """Segments of each order: from its ORC, or from an OBR without one, to the next."""
    group: list[hl7.Segment] = []
    names: set[str] = set()
    for segment in message:
        name = str(segment[0])
        if group and (name == "ORC" or (name == "OBR" and "OBR" in names)):
            yield message.create_message(group)
            group, names = [], set()
        if group or name in {"ORC", "OBR"}:
            group.append(segment)
            names.add(name)
    if group:
        yield message.create_message(group)


def _order(group: hl7.Message, accession_field: int) -> Order:
    accession = _component(group, "IPC", 1) or _component(group, "OBR", accession_field)
    study_uid = _component(group, "IPC", 3) or _component(group, "ZDS", 1)
    if not accession and not study_uid:
        raise OrderError("AE", MISSING, "An order has neither an accession number nor a study UID.")
    is_number = len(accession) <= LONGEST_VALUE and accession.isprintable()  # no database takes a NUL
    if not is_number or (study_uid and not is_uid(study_uid)):
        raise OrderError("AE", BAD_VALUE, "An accession number is none, or a study UID is none.")
    stated = (
        _component(group, "TQ1", 9),
        _component(group, "OBR", 27, 6),
        _component(group, "ORC", 7, 6),
        _component(group, "OBR", 5),
    )
    urgent = [PRIORITIES[value.upper()] for value in stated if value.upper() in PRIORITIES]
    return Order(
        is_cancelled=_component(group, "ORC", 1) in CANCELLED,
        priority=max(urgent, default=Priority.ROUTINE),
        accession_number=accession,
        study_uid=study_uid,
    )


def _field(message: hl7.Message, segment: str, number: int) -> str:
    found = next((one for one in message if str(one[0]) == segment), None)
    return str(found[number]) if found is not None and len(found) > number else ""


def _component(message: hl7.Message, segment: str, number: int, component: int = 1) -> str:
    """Component of the first repetition of a field, its escapes undone; empty where there is none."""
    repetition = _field(message, segment, number).partition("~")[0]
    parts = repetition.split("^")
    return text.unescaped(parts[component - 1]).strip() if len(parts) >= component else ""

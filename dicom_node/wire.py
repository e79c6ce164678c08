"""Bytes of the upper layer (PS3.8 section 9.3) and of C-STORE command sets (PS3.7 section 9.3.1).

Both directions use it: the fast receiver and the sender. It makes no objects per element, so a message costs
microseconds where the general encoders cost tenths of a millisecond.
"""

import struct
from dataclasses import dataclass

from dicom_node.identity import is_uid

PDU_HEAD = struct.Struct(">BBL")  # type, reserved, length of what follows
PDV_HEAD = struct.Struct(">LBB")  # length of what follows, context id, message control header
HEADS = PDU_HEAD.size + PDV_HEAD.size  # before the first fragment of a PDU
P_DATA_TF, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 0x04, 0x05, 0x06, 0x07
IS_COMMAND, IS_LAST = 0x01, 0x02  # bits of the message control header (PS3.8 annex E.2)

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
NO_DATA_SET = 0x0101
LONGEST_COMMENT = 64  # characters of an Error Comment (LO)

_CLASS, _FIELD, _MESSAGE, _ANSWERED = 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, _DATA_SET, _STATUS, _COMMENT, _INSTANCE = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000
_PRIORITIES = (b"\x00\x00", b"\x01\x00", b"\x02\x00")
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")
_UL = struct.Struct("<L")


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE request announces."""

    message_id: int
    sop_class: str
    sop_instance: str


def decode_store_request(command: bytes) -> StoreRequest | None:
    """Command set of a C-STORE request with a data set.

    Parameters
    ----------
    command : bytes
        A whole command set, implicit VR little endian.

    Returns
    -------
    StoreRequest or None
        None for everything else, and for anything odd: that is for the general decoder.
    """
    found = _elements(command)
    if found is None or found.get(_FIELD) != _US.pack(C_STORE_RQ) or found.get(_PRIORITY) not in _PRIORITIES:
        return None
    message, data_set = found.get(_MESSAGE, b""), found.get(_DATA_SET, b"")
    if len(message) != 2 or len(data_set) != 2 or data_set == _US.pack(NO_DATA_SET):  # noqa: PLR2004 - US
        return None
    sop_class, sop_instance = _uid(found.get(_CLASS, b"")), _uid(found.get(_INSTANCE, b""))
    if not (is_uid(sop_class) and is_uid(sop_instance)):
        return None
    return StoreRequest(_US.unpack(message)[0], sop_class, sop_instance)


def encode_store_request(request: StoreRequest) -> bytes:
    """Command set of a C-STORE request of medium priority."""
    return _group(
        (_CLASS, _padded(request.sop_class)),
        (_FIELD, _US.pack(C_STORE_RQ)),
        (_MESSAGE, _US.pack(request.message_id)),
        (_PRIORITY, _PRIORITIES[0]),
        (_DATA_SET, _US.pack(0x0001)),
        (_INSTANCE, _padded(request.sop_instance)),
    )


def store_response(context_id: int, request: StoreRequest, status: int, comment: str = "") -> bytes:
    """Whole P-DATA-TF PDU that answers a C-STORE request."""
    told = ((_COMMENT, _padded(comment[:LONGEST_COMMENT], b" ")),) if comment else ()
    command = _group(
        (_CLASS, _padded(request.sop_class)),
        (_FIELD, _US.pack(C_STORE_RSP)),
        (_ANSWERED, _US.pack(request.message_id)),
        (_DATA_SET, _US.pack(NO_DATA_SET)),
        (_STATUS, _US.pack(status)),
        *told,
        (_INSTANCE, _padded(request.sop_instance)),
    )
    return heads(len(command), context_id, IS_COMMAND | IS_LAST) + command


def decode_store_response(command: bytes) -> tuple[int, int] | None:
    """Message id answered and status of a C-STORE response; None for anything else."""
    found = _elements(command)
    if found is None or found.get(_FIELD) != _US.pack(C_STORE_RSP):
        return None
    answered, status = found.get(_ANSWERED, b""), found.get(_STATUS, b"")
    if len(answered) != 2 or len(status) != 2:  # noqa: PLR2004 - US
        return None
    return _US.unpack(answered)[0], _US.unpack(status)[0]


def heads(length: int, context_id: int, control: int) -> bytes:
    """PDU and PDV head before a fragment of so many bytes that fills its PDU."""
    item = length + PDV_HEAD.size - 4  # the length itself is not counted
    return PDU_HEAD.pack(P_DATA_TF, 0, item + 4) + PDV_HEAD.pack(item, context_id, control)


def _elements(command: bytes) -> dict[int, bytes] | None:
    found: dict[int, bytes] = {}
    at, end = 0, len(command)
    while at < end:
        if at + _ELEMENT.size > end:
            return None
        group, number, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if group or at + length > end:
            return None
        found[number] = command[at : at + length]
        at += length
    return found


def _group(*elements: tuple[int, bytes]) -> bytes:
    body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in elements)
    return _ELEMENT.pack(0, 0, 4) + _UL.pack(len(body)) + body


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").rstrip("\0 ")


def _padded(text: str, padding: bytes = b"\0") -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding * (len(value) % 2)

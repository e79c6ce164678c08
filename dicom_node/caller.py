"""One association as storage SCU: negotiated once, then files go from the disk to the socket.

A message needs only the context, a number and the status of its answer, so none is made of objects. The
framing is the receiver's (`dicom_node.wire`).
"""

import os
import socket
import ssl
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Self

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from dicom_node.certificates import shake_hands
from dicom_node.contexts import MAX_PDU_BYTES
from dicom_node.errors import DestinationBusyError, SopClassRefusedError
from dicom_node.flow import LONGEST_PDU
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.line import Line
from dicom_node.wire import (
    A_RELEASE_RQ,
    IS_COMMAND,
    IS_LAST,
    P_DATA_TF,
    PDU_HEAD,
    PDV_HEAD,
    StoreRequest,
    decode_store_response,
    encode_store_request,
    heads,
)

CHUNK = 4 * 1024 * 1024  # bytes of a file in memory
LONGEST_ANSWER = 16 * 1024  # bytes; a response takes some 200
MOST_PIECES = 512  # in one call; systems allow 1,024

_A_ASSOCIATE_RQ, _A_ASSOCIATE_AC, _A_ASSOCIATE_RJ = 0x01, 0x02, 0x03
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ITEM = struct.Struct(">BBH")
_TIMEVAL = struct.Struct("@ll")
_LAST_MESSAGE = 0xFFFF


class Caller:
    """An open association. Use as a context manager; leaving it releases, or closes what is broken.

    Attributes
    ----------
    accepted : dict of (str, str) to int
        Context id by SOP class and transfer syntax.
    """

    def __init__(
        self,
        connection: socket.socket,
        accepted: dict[tuple[str, str], int],
        pdu_bytes: int,
        *,
        answer_s: float,
    ) -> None:
        self.accepted = accepted
        self._answer_s = answer_s
        self._connection = connection
        self._fragment = pdu_bytes - PDV_HEAD.size
        self._message = 0
        self._is_broken = False
        self._buffer = bytearray()
        self._pieces: list[bytes | memoryview] = []

    @classmethod
    def call(cls, line: Line, contexts: Collection[tuple[str, str]]) -> Self:
        """Negotiate an association; each context is a SOP class and one transfer syntax.

        Raises
        ------
        DestinationBusyError
            If there is none: nobody listens, or the peer rejects it. Both may pass, or an operator sees the
            delivery wait.
        DestinationRefusedError
            If the peer accepts none of the contexts, or shows another certificate than its profile demands.
        """
        try:
            connection = socket.create_connection((line.host, line.port), line.timeouts.connect_s)
        except OSError as error:
            raise DestinationBusyError("The destination's host cannot be reached.") from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(line.timeouts.association_s)
            connection = shake_hands(connection, host=line.host, certificate=line.certificate)
            proposed = dict(enumerate(sorted(contexts)))
            connection.sendall(_association_request(line, proposed))
            deadline = time.monotonic() + line.timeouts.association_s
            accepted, pdu_bytes = _negotiated(connection, proposed, deadline)
            _watch_time(connection, line.timeouts.answer_s)
        except OSError as error:
            connection.close()
            raise DestinationBusyError("The destination ended the association at once.") from error
        except BaseException:
            connection.close()
            raise
        return cls(connection, accepted, pdu_bytes, answer_s=line.timeouts.answer_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._connection, suppress(OSError):
            if not self._is_broken:
                self._connection.sendall(PDU_HEAD.pack(A_RELEASE_RQ, 0, 4) + bytes(4))
                _receive_pdu(self._connection, time.monotonic() + self._answer_s, LONGEST_ANSWER)

    def store_file(
        self, path: Path, start: int, *, context_id: int, sop_class: str, sop_instance: str
    ) -> int:
        """Send the data set that begins at byte `start` of a file; return the status.

        Raises
        ------
        OSError
            If the file cannot be read, or the association ended.
        """
        with path.open("rb", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size - start
            file.seek(start)
            request = self._begin(context_id, sop_class, sop_instance)
            if len(self._buffer) < min(left, CHUNK):
                self._buffer = bytearray(min(left, CHUNK))
            view = memoryview(self._buffer)
            while True:
                chunk = view[: min(left, CHUNK - CHUNK % self._fragment)]
                if file.readinto(chunk) != len(chunk):
                    self._is_broken = True
                    raise OSError("the file became shorter while it was sent")
                left -= len(chunk)
                self._send_fragments(context_id, chunk, is_end=not left)
                if not left:
                    return self._answer(request)

    def store_bytes(self, data: bytes, *, context_id: int, sop_class: str, sop_instance: str) -> int:
        """Send a data set that is in memory; return the status.

        Raises
        ------
        OSError
            If the association ended.
        """
        request = self._begin(context_id, sop_class, sop_instance)
        self._send_fragments(context_id, memoryview(data), is_end=True)
        return self._answer(request)

    def _begin(self, context_id: int, sop_class: str, sop_instance: str) -> StoreRequest:
        if self._is_broken:
            raise ConnectionError("the association has ended")
        self._message = self._message % _LAST_MESSAGE + 1
        request = StoreRequest(self._message, sop_class, sop_instance)
        command = encode_store_request(request)
        self._pieces = [heads(len(command), context_id, IS_COMMAND | IS_LAST) + command]
        return request

    def _send_fragments(self, context_id: int, data: memoryview, *, is_end: bool) -> None:
        pieces = self._pieces
        size = self._fragment
        for at in range(0, len(data) or 1, size):
            fragment = data[at : at + size]
            is_last = is_end and at + size >= len(data)
            pieces.append(heads(len(fragment), context_id, IS_LAST if is_last else 0))
            pieces.append(fragment)
        self._pieces = []
        try:
            for first in range(0, len(pieces), MOST_PIECES):
                _send_all(self._connection, pieces[first : first + MOST_PIECES])
        except OSError:
            self._is_broken = True
            raise

    def _answer(self, request: StoreRequest) -> int:
        try:
            command = b""
            deadline = time.monotonic() + self._answer_s
            while True:
                kind, body = _receive_pdu(self._connection, deadline, LONGEST_ANSWER - len(command))
                if kind != P_DATA_TF:
                    raise ConnectionError("the peer ended the association")
                parts, is_last = _command_of(body)
                command += parts
                if is_last:
                    break
            answer = decode_store_response(command)
            if answer is None or answer[0] != request.message_id:
                raise ConnectionError("the peer's answer is none to what it was asked")
        except OSError:
            self._is_broken = True
            raise
        return answer[1]


def _watch_time(connection: socket.socket, seconds: float) -> None:
    """Bound each read and write; by the kernel where TLS does not need to know, for that is one call less."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    connection.settimeout(None)
    timeout = _TIMEVAL.pack(max(int(seconds), 1), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)


def _send_all(connection: socket.socket, pieces: list[bytes | memoryview]) -> None:
    if isinstance(connection, ssl.SSLSocket):  # it knows no sendmsg
        connection.sendall(b"".join(pieces))
        return
    sent = connection.sendmsg(pieces)
    for piece in pieces:
        if sent >= len(piece):
            sent -= len(piece)
        else:
            connection.sendall(memoryview(piece)[sent:])
            sent = 0


def _receive_pdu(connection: socket.socket, deadline: float, longest: int) -> tuple[int, bytes]:
    kind, _, length = PDU_HEAD.unpack(_receive(connection, PDU_HEAD.size, deadline))
    if length > longest:
        raise ConnectionError("the peer sends more than an answer")
    return kind, _receive(connection, length, deadline)


def _receive(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Receive so many bytes; each read has a time limit of its own, and all together the deadline."""
    received = connection.recv(count, 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL)
    if not received and count:
        raise ConnectionError("the peer closed the connection")
    while len(received) < count:
        if time.monotonic() >= deadline:
            raise TimeoutError("the peer's answer only drips")
        more = connection.recv(count - len(received))
        if not more:
            raise ConnectionError("the peer closed the connection")
        received += more
    return received


def _command_of(body: bytes) -> tuple[bytes, bool]:
    """Command fragments of a P-DATA-TF PDU, and whether the last is among them."""
    command, is_last, at = b"", False, 0
    while at + PDV_HEAD.size <= len(body):
        item, _, control = PDV_HEAD.unpack_from(body, at)
        if not control & IS_COMMAND or item < 2:  # noqa: PLR2004 - context id and control
            raise ConnectionError("the peer sends no command")
        command += body[at + PDV_HEAD.size : at + 4 + item]
        is_last = is_last or bool(control & IS_LAST)
        at += 4 + item
    return command, is_last


def _association_request(line: Line, contexts: dict[int, tuple[str, str]]) -> bytes:
    """A-ASSOCIATE-RQ PDU (PS3.8 9.3.2, PS3.7 annex D.3.3)."""
    proposed = b"".join(
        _item(
            0x20,
            bytes((2 * number + 1, 0, 0, 0)) + _item(0x30, sop_class.encode()) + _item(0x40, syntax.encode()),
        )
        for number, (sop_class, syntax) in contexts.items()
    )
    user = (
        _item(0x51, struct.pack(">L", MAX_PDU_BYTES))
        + _item(0x52, IMPLEMENTATION_CLASS_UID.encode())
        + _item(0x55, IMPLEMENTATION_VERSION.encode())
    )
    body = (
        struct.pack(">HH", 1, 0)
        + _title(line.called_aet)
        + _title(line.calling_aet)
        + bytes(32)
        + _item(0x10, _APPLICATION_CONTEXT.encode())
        + proposed
        + _item(0x50, user)
    )
    return PDU_HEAD.pack(_A_ASSOCIATE_RQ, 0, len(body)) + body


def _negotiated(
    connection: socket.socket, proposed: dict[int, tuple[str, str]], deadline: float
) -> tuple[dict[tuple[str, str], int], int]:
    """Accepted contexts, and the longest PDU to send."""
    kind, body = _receive_pdu(connection, deadline, LONGEST_PDU)
    pdu = PDU_HEAD.pack(kind, 0, len(body)) + body
    if kind == _A_ASSOCIATE_RJ:
        rejection = A_ASSOCIATE_RJ()
        rejection.decode(pdu)
        raise DestinationBusyError(
            f"The destination rejected the association: {rejection.to_primitive().reason_str}."
        )
    if kind != _A_ASSOCIATE_AC:
        raise ConnectionError("the peer does not negotiate")
    answer = A_ASSOCIATE_AC()
    try:
        answer.decode(pdu)
        accepted = {
            proposed[context.context_id // 2]: context.context_id
            for context in answer.presentation_context
            if context.result == 0 and context.context_id // 2 in proposed
        }
        limit = answer.user_information.maximum_length or MAX_PDU_BYTES
    except (AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise ConnectionError("the peer does not negotiate") from error
    if not accepted:
        raise SopClassRefusedError("The destination accepts none of the proposed SOP classes.")
    return accepted, max(min(limit, MAX_PDU_BYTES), 2 * PDV_HEAD.size)


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, 0, len(body)) + body


def _title(aet: str) -> bytes:
    return aet.encode("ascii", "replace").ljust(16)[:16]

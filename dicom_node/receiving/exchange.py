"""C-STORE requests of one established association: from the socket to an answer, on one thread.

Bytes are received where they are written from: the fragments of a data set land behind each other in a
`Block`, each received over the head of the one before. What is no plain C-STORE is never taken off the
socket here: one look ahead decides, and pynetdicom's own code reads it.

The limits of `flow` hold: length of a PDU, time a PDU may take, size of an instance. There is no queue: the
next request is read when the last one is answered, so a sender that does not wait is held up by TCP.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import structlog

from dicom_node.draft import Draft, full_disk_told
from dicom_node.flow import LONGEST_PDU
from dicom_node.handlers import OUT_OF_RESOURCES, SUCCESS, Answer, Counters, admit, answer_to, refuse
from dicom_node.keys import Keys, read_keys
from dicom_node.landing import Landing, Origin, set_aside
from dicom_node.part10 import file_head
from dicom_node.receiving.block import CAPACITY, PAGE, Block, Blocks
from dicom_node.receiving.forward import keys_of
from dicom_node.spool import StoreOutcome
from dicom_node.wire import (
    A_ABORT,
    HEADS,
    IS_COMMAND,
    IS_LAST,
    P_DATA_TF,
    PDU_HEAD,
    PDV_HEAD,
    StoreRequest,
    decode_store_request,
    store_response,
)

LOOK_AHEAD = 1024  # bytes; a command set takes some 200
TICK_S = 0.25  # how soon a blocked reader sees that it should stop
_TIMEVAL = struct.Struct("@ll")

log = structlog.get_logger(__name__)


class ConnectionOverError(Exception):
    """The peer is gone, or was cut off; there is nobody to answer."""


class ProtocolError(Exception):
    """What came is no data set of a C-STORE."""


class AbortedError(Exception):
    """The peer aborted inside an instance."""


class InterruptedExchangeError(Exception):
    """The association is being ended from this side."""


@dataclass(frozen=True, slots=True)
class Context:
    """One accepted presentation context of a storage class."""

    sop_class: str
    origin: Origin


@dataclass(slots=True, kw_only=True)
class Exchange:
    """The C-STOREs of one association.

    Attributes
    ----------
    connection : socket.socket
    contexts : mapping of int to Context
        Accepted ones of storage classes, by id.
    landing : Landing
    counters : Counters
    blocks : Blocks
    max_instance_bytes : int
        A larger instance ends its association.
    pdu_timeout_s : float
        What has begun must go on within this time.
    is_over : callable
        Whether this side ends the association.
    """

    connection: socket.socket
    contexts: Mapping[int, Context]
    landing: Landing
    counters: Counters
    blocks: Blocks
    max_instance_bytes: int
    pdu_timeout_s: float
    is_over: Callable[[], bool]
    _block: Block | None = field(default=None, init=False)
    _ahead: bytearray = field(default_factory=lambda: bytearray(LOOK_AHEAD), init=False)

    def close(self) -> None:
        """Give back the memory."""
        if self._block is not None:
            self.blocks.give_back(self._block)
            self._block = None

    def serve(self) -> bool:
        """Receive, keep and answer one C-STORE, if that is what comes next.

        Returns
        -------
        bool
            False: what comes next is something else, and still all there.

        Raises
        ------
        ConnectionOverError, ProtocolError, AbortedError, InterruptedExchangeError
            If the instance does not arrive. Nothing of it is left.
        """
        if self._block is None:
            self._block = self.blocks.take()
            self._prepare()
        opening = self._look_ahead()
        if opening is None:
            return False
        instance = _Instance(
            block=self._block,
            landing=self.landing,
            announced=(opening.request.sop_class, opening.request.sop_instance),
            origin=opening.origin,
        )
        with ExitStack() as stack:
            answer = self._receive(opening, instance, stack)
            if answer is None:
                answer = answer_to(lambda: admit(instance, self.counters), self.counters)
        self._send(store_response(opening.context_id, opening.request, answer.status, answer.comment))
        return True

    def _prepare(self) -> None:
        """Let the kernel watch the time: a blocked call comes back after a tick."""
        tick = min(TICK_S, self.pdu_timeout_s)
        seconds, rest = divmod(tick, 1)
        option = _TIMEVAL.pack(int(seconds), int(rest * 1e6))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, option)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, option)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _look_ahead(self) -> "_Opening | None":
        """Opening of a plain C-STORE: one PDU with one whole command set and nothing else."""
        if self.connection.gettimeout() is not None:  # as pynetdicom's reading leaves it
            self.connection.settimeout(None)
        ahead = self._ahead
        try:
            there = self.connection.recv_into(ahead, LOOK_AHEAD, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        if there < HEADS:
            return None
        kind, _, length = PDU_HEAD.unpack_from(ahead)
        item, context_id, control = PDV_HEAD.unpack_from(ahead, PDU_HEAD.size)
        size = PDU_HEAD.size + length
        context = self.contexts.get(context_id)
        if (
            (kind, control) != (P_DATA_TF, IS_COMMAND | IS_LAST)
            or item + 4 != length
            or size > there
            or context is None
        ):
            return None
        request = decode_store_request(bytes(ahead[HEADS:size]))
        if request is None or request.sop_class != context.sop_class:
            return None
        return _Opening(context_id, context.origin, request, size)

    def _receive(self, opening: "_Opening", instance: "_Instance", stack: ExitStack) -> Answer | None:
        """Receive the data set; an answer where it is refused already, and forgotten as it comes."""
        refusal = _unless_success(answer_to(self._look_for_room, self.counters))
        head, block = instance.head(), instance.block
        start = PAGE + len(head)
        self._fill(block.view, start - HEADS - opening.size, opening.size + HEADS, opening.size)
        first = bytes(block.view[start - HEADS : start])
        block.view[PAGE:start] = head
        block.end = start
        received = opening.size
        for body, at_most in self._fragments(block, opening.context_id, first):
            received += body + HEADS
            if received > self.max_instance_bytes:
                log.warning("connection closed: the peer exceeds a limit")
                raise ConnectionOverError
            if refusal is None and block.end + at_most > PAGE + CAPACITY:
                refusal = self._spill(instance, stack)
            if refusal is not None:
                block.end = PAGE
        if refusal is None and instance.draft is not None:
            refusal = self._spill(instance, stack)
        return refusal

    def _look_for_room(self) -> Answer:
        if self.landing.has_room():
            return Answer(SUCCESS)
        return refuse(self.counters, "full", OUT_OF_RESOURCES, "below the free-space mark")

    def _spill(self, instance: "_Instance", stack: ExitStack) -> Answer | None:
        """Move what is in memory to the disk; an answer where it has no room, and then nothing is kept."""

        def move() -> Answer:
            if instance.draft is None:
                instance.draft = stack.enter_context(self.landing.spool.draft())
            with full_disk_told():
                instance.draft.write(instance.block.file)
            instance.block.end = PAGE
            return self._look_for_room()

        refusal = _unless_success(answer_to(move, self.counters))
        if refusal is not None:
            stack.close()
        return refusal

    def _fragments(self, block: Block, context_id: int, first: bytes) -> Iterator[tuple[int, int]]:
        """Receive the fragments of a data set behind each other.

        Yields
        ------
        body, at_most : int
            Before each is received: its bytes, and the most that will be received behind the block's end.
            The caller may move that end.
        """
        head: bytes | memoryview = first
        pdu_left = 0
        while True:
            item, context, control = PDV_HEAD.unpack_from(head, len(head) - PDV_HEAD.size)
            if not pdu_left:
                kind, _, pdu_left = PDU_HEAD.unpack_from(head)
                if kind != P_DATA_TF or pdu_left > LONGEST_PDU:
                    raise ProtocolError
            body = item + 4 - PDV_HEAD.size
            pdu_left -= item + 4
            is_last = bool(control & IS_LAST)
            if (
                min(body, pdu_left) < 0
                or context != context_id
                or control & IS_COMMAND
                or (is_last and pdu_left)
            ):
                raise ProtocolError
            following = 0 if is_last else PDV_HEAD.size if pdu_left else HEADS
            yield body, body + following
            self._fill(block.view, block.end, body + following, body)
            block.end += body
            if is_last:
                return
            head = block.view[block.end : block.end + following]  # the next fragment is received over it

    def _fill(self, view: memoryview, at: int, count: int, body: int = -1) -> None:
        """Receive exactly so many bytes, within the time a PDU may take.

        Behind `body` bytes the head of another PDU may stand; an abort is shorter than such a head.
        """
        deadline = 0.0
        done = 0
        while done < count:
            try:
                got = self.connection.recv_into(view[at + done : at + count], 0, socket.MSG_WAITALL)
            except BlockingIOError:
                got = -1  # the tick of the clock
            if not got:
                raise ConnectionOverError
            done += max(got, 0)
            if done < count:
                if 0 <= body <= done - PDU_HEAD.size and view[at + body] == A_ABORT:
                    raise AbortedError
                now = time.monotonic()
                deadline = deadline or now + self.pdu_timeout_s
                if now >= deadline:
                    log.warning("connection closed: the peer went silent inside an instance")
                    raise ConnectionOverError
                if self.is_over():
                    raise InterruptedExchangeError

    def _send(self, response: bytes) -> None:
        """Send a response; a peer that does not read it within the time is cut off."""
        rest = memoryview(response)
        deadline = time.monotonic() + self.pdu_timeout_s
        while rest:
            try:
                rest = rest[self.connection.send(rest) :]
            except BlockingIOError as error:
                if time.monotonic() >= deadline or self.is_over():
                    raise ConnectionOverError from error


@dataclass(frozen=True, slots=True)
class _Opening:
    """Command of a C-STORE, not yet taken off the socket."""

    context_id: int
    origin: Origin
    request: StoreRequest
    size: int  # of its PDU


@dataclass(slots=True)
class _Instance:
    """Instance in memory, or in a draft if it is large."""

    block: Block
    landing: Landing
    announced: tuple[str, str]
    origin: Origin
    draft: Draft | None = None
    _head_size: int = 0

    def head(self) -> bytes:
        head = file_head(
            sop_class=self.announced[0],
            sop_instance=self.announced[1],
            syntax=self.origin.syntax,
            sender=self.origin.sender,
        )
        self._head_size = len(head)
        return head

    def keys(self) -> Keys:
        if self.draft is None:
            return keys_of(self.block.file[self._head_size :], self.origin.syntax)
        with self.draft.path.open("rb") as file:
            file.seek(self._head_size)
            return read_keys(file, self.origin.syntax)

    def keep(self, keys: Keys) -> StoreOutcome:
        if self.draft is None:
            return self.landing.keep(self.block, keys, self.origin)
        with full_disk_told():
            return self.landing.spool.place(self.draft, keys.study_uid, keys.sop_instance_uid)

    def set_aside(self, reason: str) -> None:
        if self.draft is None:
            set_aside(self.landing.spool, self.block, reason)
        else:
            with full_disk_told():
                self.landing.spool.set_aside(self.draft, reason)


def _unless_success(answer: Answer) -> Answer | None:
    return None if answer.status == SUCCESS else answer

"""An MLLP server: bounded frames, bounded connections, known senders alone, TLS where the node has it."""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import structlog

from dicom_node.certificates import fingerprint_of
from dicom_node.tls import BoundedHandshake
from service.messages.hl7v2.mllp import FrameError, Frames, framed

IDLE_S = 600.0  # a sender may keep its connection open between two messages
WHOLE_S = 10.0  # from the first byte of a message to its last
MOST_CONNECTIONS, MOST_OF_ONE = 64, 8  # each holds a thread; of one address at most so many

Answer = Callable[[bytes, str, str | None], bytes | None]

log = structlog.get_logger(__name__)


class _Handler(BaseRequestHandler):
    """One connection: every message is answered before the next is read."""

    server: "MllpServer"

    def handle(self) -> None:
        connection, address = self.request, str(self.client_address[0])
        frames = Frames(connection)
        try:
            with connection, self.server.holding(connection):
                while (frame := frames.next(idle_s=IDLE_S, whole_s=WHOLE_S)) is not None:
                    answer = self.server.answer(frame, address, fingerprint_of(connection))
                    if answer is None:
                        return
                    connection.settimeout(WHOLE_S)
                    connection.sendall(framed(answer))
        except FrameError as error:
            log.warning("HL7 connection closed", reason=str(error))
        except OSError as error:
            log.warning("HL7 connection lost", reason=type(error).__name__)


class MllpServer(ThreadingTCPServer):
    """Takes messages and answers each.

    Parameters
    ----------
    address : tuple of str and int
    answer : callable
        Frame, address and certificate fingerprint of the sender to the frame that answers; None closes.
    is_welcome : callable
        Whether anybody at an address may connect at all.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self, address: tuple[str, int], *, answer: Answer, is_welcome: Callable[[str], bool], **named: Any
    ) -> None:
        self.answer = answer
        self._is_welcome = is_welcome
        self._open: Counter[str] = Counter()
        self._held: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, _Handler, **named)

    @contextmanager
    def holding(self, connection: socket.socket) -> Iterator[None]:
        """Know a connection while it is served, to end it with the server."""
        with self._guard:
            self._held.add(connection)
        try:
            yield
        finally:
            with self._guard:
                self._held.discard(connection)

    def hang_up(self) -> None:
        """End every connection: what was not answered is sent again."""
        with self._guard:
            held = list(self._held)
        for connection in held:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Close at once what is unknown or too much."""
        address = str(client_address[0])
        if not self._is_welcome(address):
            log.warning("HL7 connection refused: no channel of the peers file has this address")
            return False
        with self._guard:
            if self._open.total() >= MOST_CONNECTIONS or self._open[address] >= MOST_OF_ONE:
                log.warning("HL7 connection refused: too many are open")
                return False
        return super().verify_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Count a connection while it is open."""
        address = str(client_address[0])
        with self._guard:
            self._open[address] += 1
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._open[address] -= 1
                if not self._open[address]:
                    del self._open[address]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's
        """Tell a defect in the log, not on standard error."""
        log.error("HL7 connection failed", exc_info=True)  # noqa: LOG014 - called while one is handled


class TlsMllpServer(BoundedHandshake, MllpServer):  # type: ignore[misc]  # names of parameters alone differ
    """The same behind a bounded handshake."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Let in who is welcome, and of those so many handshakes at once."""
        is_welcome = MllpServer.verify_request(self, request, client_address)
        return is_welcome and super().verify_request(request, client_address)


@contextmanager
def serving(
    host: str,
    port: int,
    *,
    answer: Answer,
    is_welcome: Callable[[str], bool],
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> Iterator[int]:
    """Serve on a thread until the block ends; the value is the port.

    Raises
    ------
    OSError
        If the port cannot be had.
    """
    address = (host, port)
    server = (
        MllpServer(address, answer=answer, is_welcome=is_welcome)
        if tls is None
        else TlsMllpServer(address, answer=answer, is_welcome=is_welcome, tls=tls)
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="hl7")
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.hang_up()
        thread.join()
        server.server_close()

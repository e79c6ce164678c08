"""TLS of associations by the BCP 195 profile (PS3.15 B.12), with a handshake that ends by a deadline.

pynetdicom shakes hands where it accepts, without a time limit: one peer that connects and says nothing keeps
every other out. Here the handshake is done in the connection's own thread, before an association exists, and
so many at most wait for one address.
"""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from dicom_node.receiving.association import Server

HANDSHAKE_TIMEOUT_S = 5.0  # from the connection to the end of the handshake, however slowly bytes drip
MOST_WAITING = 64  # handshakes under way; each holds a thread
MOST_WAITING_OF_ONE = 16  # of them from one address, so that no peer takes all

log = structlog.get_logger(__name__)


class BoundedHandshake:
    """Mixed into a threaded association server: TLS before the association, in the connection's thread.

    Parameters
    ----------
    tls : callable
        Gives the context of a connection, as `dicom_node.certificates.Followed`.
    handshake_timeout_s : float
    """

    def __init__(
        self,
        *args: Any,
        tls: Callable[[], ssl.SSLContext],
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        **named: Any,
    ) -> None:
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(*args, **named)

    def verify_request(self, _request: socket.socket, client_address: Sequence[Any]) -> bool:
        """Count a connection before it gets a thread; too many are closed."""
        address = str(client_address[0])
        with self._lock:
            is_welcome = self._waiting.total() < MOST_WAITING and self._waiting[address] < MOST_WAITING_OF_ONE
            if is_welcome:
                self._waiting[address] += 1
        if not is_welcome:
            log.warning("connection closed: too many TLS handshakes under way")
        return is_welcome

    def finish_request(self, request: socket.socket, client_address: Any) -> None:
        """Shake hands, then open the association; a peer that cannot is closed without one."""
        try:
            connection = self._shake_hands(request)
        finally:
            self._one_less(str(client_address[0]))
        if connection is not None:
            super().finish_request(connection, client_address)  # type: ignore[misc]  # of the other base

    def _one_less(self, address: str) -> None:
        with self._lock:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    def _shake_hands(self, request: socket.socket) -> ssl.SSLSocket | None:
        request.settimeout(self._handshake_timeout_s)  # of the whole handshake, not of each read
        try:
            connection = self._tls().wrap_socket(request, server_side=True)
        except (OSError, ValueError) as error:  # ssl.SSLError and TimeoutError are OSErrors
            # The reason is OpenSSL's word; certificates are not quoted (I9).
            log.warning("TLS handshake failed", reason=getattr(error, "reason", None) or type(error).__name__)
            request.close()
            return None
        connection.settimeout(None)
        return connection


class TlsServer(BoundedHandshake, Server):
    """pynetdicom's acceptor behind a bounded handshake."""

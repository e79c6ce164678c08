"""Limits on what one connection may make the node hold. pynetdicom has none of its own.

It reads a PDU of whatever length the peer claims, collects a message of whatever size follows, and queues
messages while a handler works. Here each of the three is bounded (I13), and so is the time a PDU may take.
"""

import queue
import socket
import time
from typing import Any

import structlog

LONGEST_PDU = 1024 * 1024  # bytes; an association request with every context stays far below
MOST_WAITING = 4  # messages not yet answered; without asynchronous operations a sender has one

log = structlog.get_logger(__name__)


class Flow:
    """Counts what one connection sent and not yet got an answer for.

    Parameters
    ----------
    max_message_bytes : int
        Largest message, command and data set together.
    pdu_timeout_s : float
        A PDU that has begun must be complete by then.
    """

    def __init__(self, connection: Any, *, max_message_bytes: int, pdu_timeout_s: float) -> None:
        self._socket: socket.socket = connection.socket
        self._max_message_bytes = max_message_bytes
        self._pdu_timeout_s = pdu_timeout_s
        self._message_bytes = 0
        self._waiting = 0

    def recv(self, length: int) -> bytearray:
        """Read exactly so many bytes, fewer where the peer closed; stands in for the connection's own.

        Raises
        ------
        OSError
            If a limit is exceeded; pynetdicom then closes the connection.
        """
        self._message_bytes += length
        is_within = (
            length <= LONGEST_PDU
            and self._message_bytes <= self._max_message_bytes
            and self._waiting <= MOST_WAITING
        )
        if not is_within:
            log.warning("connection closed: the peer exceeds a limit", waiting=self._waiting)
            raise OSError("the peer exceeds a limit of this node")
        return self._read(self._socket, length)

    def message_complete(self) -> None:
        """EVT_DIMSE_RECV: one more message waits for its answer."""
        self._message_bytes = 0
        self._waiting += 1

    def message_taken(self) -> None:
        """Its handler has begun."""
        self._waiting -= 1

    def close(self) -> None:
        """Give the socket back; pynetdicom leaves it open where the peer went first."""
        self._socket.close()

    def _read(self, source: socket.socket, length: int) -> bytearray:
        received = bytearray(length)
        view = memoryview(received)
        deadline = time.monotonic() + self._pdu_timeout_s
        done = 0
        while done < length:
            source.settimeout(max(deadline - time.monotonic(), 0.001))
            count = source.recv_into(view[done:])
            if not count:
                view.release()
                return received[:done]
            done += count
        view.release()
        return received


def discard_unfinished(association: Any) -> None:
    """Remove files of messages that nobody will answer any more.

    pynetdicom leaves them where a connection ends inside a message, or with messages still queued.
    """
    dimse = association.dimse
    partial = dimse.message
    leftovers = [] if partial is None else [(partial._data_set_file, partial._data_set_path)]  # noqa: SLF001 - no public way
    try:
        while True:
            _, message = dimse.msg_queue.get_nowait()
            leftovers.append(
                (getattr(message, "_dataset_file", None), getattr(message, "_dataset_path", None))
            )
    except queue.Empty:
        # The reactor is woken by an empty message once the connection has gone.
        dimse.msg_queue.put((None, None))
    for file, path in leftovers:
        if file is not None:
            file.close()
        if path is not None:
            path.unlink(missing_ok=True)

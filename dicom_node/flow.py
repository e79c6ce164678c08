"""Limits on what one connection may make the node hold. pynetdicom has none of its own.

It reads a PDU of whatever length the peer claims, collects a message of whatever size follows, and queues
messages while a handler works. Here each of the three is bounded (I13), and so is the time a PDU may take.
What a full disk does not take of a data set is forgotten, and told to the message's handler.
"""

import os
import queue
import socket
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from dicom_node.draft import full_disk_told
from dicom_node.errors import SpoolFullError

LONGEST_PDU = 1024 * 1024  # bytes; an association request with every context stays far below
MOST_IN_MEMORY = 4 * LONGEST_PDU  # bytes of a message that are not a C-STORE's data set
BY_PROVIDER = 0x02  # source of an abort (PS3.8 table 9-26)
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
        # Weak: flows are kept by association, and one that held it would keep it for ever.
        self._association = weakref.ref(connection.assoc)
        self._socket: socket.socket = connection.socket
        self._max_message_bytes = max_message_bytes
        self._pdu_timeout_s = pdu_timeout_s
        self._message_bytes = 0
        # Each is written by one thread alone: the connection's, and the one that runs the handlers.
        self._complete = 0
        self._taken = 0
        self._files: dict[Path, Any] = {}

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
            and (self._message_bytes <= MOST_IN_MEMORY or self._is_on_disk())
            and self._complete - self._taken <= MOST_WAITING
        )
        if not is_within:
            log.warning("connection closed: the peer exceeds a limit")
            raise OSError("the peer exceeds a limit of this node")
        self._watch_disk()
        return self._read(self._socket, length)

    def _is_on_disk(self) -> bool:
        """Whether what arrives goes to a file: the data set of a C-STORE does, all else is kept in memory."""
        association = self._association()
        message = None if association is None else association.dimse.message
        return getattr(message, "_data_set_path", None) is not None  # no public way

    def message_complete(self, message: Any) -> None:
        """EVT_DIMSE_RECV: one more message waits for its answer."""
        self._message_bytes = 0
        self._complete += 1
        self._remember(message)

    def message_taken(self, file: Path | None = None) -> bool:
        """Its handler has begun, and answers for the file; False where the disk did not take all of it."""
        self._taken += 1
        taken = None if file is None else self._files.pop(file, None)
        return not getattr(taken, "is_full", False)

    def _watch_disk(self) -> None:
        association = self._association()
        message = None if association is None else association.dimse.message
        file = getattr(message, "_data_set_file", None)  # no public way
        if file is not None and not isinstance(file, _DataSetFile):
            message._data_set_file = _DataSetFile(file)  # type: ignore[union-attr]  # noqa: SLF001 - as above

    def end(self, association: Any) -> None:
        """Give back what pynetdicom leaves where a connection ends early.

        These are its socket, and the files of messages that nobody will answer any more: one half received,
        some still queued, some that were no valid request.
        """
        dimse = association.dimse
        with suppress(queue.Empty):
            while True:
                dimse.msg_queue.get_nowait()
        dimse.msg_queue.put((None, None))  # wakes the association's thread, as pynetdicom does
        self._remember(dimse.message)
        with suppress(KeyError):  # a handler in another thread may take the last one
            while True:
                path, file = self._files.popitem()
                path.unlink(missing_ok=True)
                with suppress(OSError):  # a full disk does not take what it still holds back
                    file.close()
        self._socket.close()

    def _remember(self, message: Any) -> None:
        path = getattr(message, "_data_set_path", None)  # no public way
        if path is not None:
            self._files[path] = message._data_set_file  # noqa: SLF001 - as above

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


class _DataSetFile:
    """pynetdicom's file of a data set, which takes everything: from a full disk on it is forgotten."""

    def __init__(self, file: Any) -> None:
        self.name = file.name
        self.is_full = False
        self._file = file

    @property
    def file(self) -> "_DataSetFile":
        """What pynetdicom flushes."""
        return self

    def write(self, data: bytes) -> None:
        """Append, unless the disk was full before."""
        if not self.is_full:
            self._unless_full(lambda: self._file.write(data))

    def flush(self) -> None:
        """Hand everything to the system."""
        if not self.is_full:
            self._unless_full(self._file.flush)

    def close(self) -> None:
        """Close; what a full disk did not take is no error any more."""
        self._unless_full(self._file.close)

    def _unless_full(self, act: Callable[[], object]) -> None:
        try:
            with full_disk_told():
                act()
        except SpoolFullError:
            self.is_full = True
            os.truncate(self.name, 0)  # others may have the room meanwhile


def end_quietly(association: Any, flow: Flow) -> None:
    """Let a malformed message or request end its connection, where pynetdicom's thread would die of it.

    That thread would leave socket and files behind, and print a traceback that quotes the peer (I9). One that
    dies while it negotiates leaves a connection that nothing ever ends.
    """
    machine = association.dul.state_machine
    act = machine.do_action

    def do_action(event: str) -> None:
        try:
            act(event)
        except Exception as error:  # noqa: BLE001 - the border between a peer and this process
            log.warning("connection closed: malformed message", error=type(error).__name__)
            flow.end(association)

    machine.do_action = do_action
    negotiate = association.acse.negotiate_association

    def negotiate_association() -> None:
        try:
            negotiate()
        except Exception as error:  # noqa: BLE001 - as above, in the association's own thread
            log.warning("connection closed: malformed association request", error=type(error).__name__)
            association.acse.send_abort(BY_PROVIDER)
            association.kill()

    association.acse.negotiate_association = negotiate_association

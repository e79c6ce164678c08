"""How the fast way is joined to pynetdicom: subclasses handed over as the server's request handler.

pynetdicom keeps negotiation, verification, every other service, release and abort. Two things differ. Its
threads wait for the socket, or for each other, where they would sleep and look again. And where the next
message of an established association is a plain C-STORE, an `Exchange` takes it from the socket.

The overridden names with an underscore are no public interface: pynetdicom is pinned below its next minor
version, and `tests/dicom_node/test_scp.py` holds both ways to the same conversations.
"""

import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import structlog
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import NotificationEvent
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.receiving.exchange import (
    AbortedError,
    ConnectionOverError,
    Exchange,
    InterruptedExchangeError,
    ProtocolError,
)

WAIT_MS = 250  # how late a timer may be noticed
BACKLOG = 128  # connections that wait to be accepted; pynetdicom's 5 drop a burst
_ABORT_PDU = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 0, 0))

ESTABLISHED, CLOSING = "Sta6", "Sta13"
CLOSED_BY_PEER, INVALID_PDU = "Evt17", "Evt19"

log = structlog.get_logger(__name__)

ExchangeFactory = Callable[[Any], Exchange]


class _Bell(threading.Event):
    """pynetdicom's checkpoint of an association's thread, where it now also waits for something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = threading.Event()

    def set(self) -> None:
        super().set()
        self.rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        self.rung.wait(WAIT_MS / 1000)
        self.rung.clear()
        return super().wait(timeout)


class _Machine(StateMachine):
    """State machine that wakes the association's thread after whatever happened."""

    def do_action(self, event: str) -> None:
        try:
            super().do_action(event)
        finally:
            self.dul.assoc.ring()


class _Socket(AssociationSocket):
    @property
    def ready(self) -> bool:
        """Whether the peer sent something; waits a while for it."""
        if self.socket is None or self._is_connected is False:
            return False
        try:
            return bool(self.assoc.dul.wait_for_peer(self.socket))
        except (OSError, ValueError):
            self.event_queue.put(CLOSED_BY_PEER)
            return False


class _Provider(DULServiceProvider):
    """Upper layer that waits in poll(), and lets an `Exchange` read C-STOREs."""

    def __init__(self, association: Any, open_exchange: ExchangeFactory) -> None:
        super().__init__(association)
        self._run_loop_delay = 0  # `wait_for_peer` waits
        self.state_machine = _Machine(self)
        self._open_exchange = open_exchange
        self._exchange: Exchange | None = None
        self._poll: select.poll | None = None
        self._alarm = -1  # an eventfd while the thread runs
        self._alarm_lock = threading.Lock()

    def run_reactor(self) -> None:
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            super().run_reactor()
        finally:
            with self._alarm_lock:
                alarm, self._alarm = self._alarm, -1
                os.close(alarm)
            if self._exchange is not None:
                self._exchange.close()
            self.assoc.ring()

    def wake(self) -> None:
        """Let the thread look at its queue."""
        with self._alarm_lock:
            if self._alarm >= 0:
                os.eventfd_write(self._alarm, 1)

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self.wake()

    def kill_dul(self) -> None:
        super().kill_dul()
        self.wake()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state == "Sta1":
            self.kill_dul()
        return bool(super().stop_dul())

    def wait_for_peer(self, connection: socket.socket) -> bool:
        """Wait until the peer sent something, a primitive is to be sent, or a while is over."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(connection, select.POLLIN)
            self._poll.register(self._alarm, select.POLLIN)
        is_busy = (
            self._kill_thread
            or self.state_machine.current_state == CLOSING
            or bool(self.to_provider_queue.queue)
            or bool(self.event_queue.queue)
        )
        has_data = False
        for descriptor, _ in self._poll.poll(0 if is_busy else WAIT_MS):
            if descriptor == self._alarm:
                os.eventfd_read(self._alarm)
            else:
                has_data = True
        return has_data

    def _read_pdu_data(self) -> None:
        if not self._may_take_over():
            super()._read_pdu_data()
            return
        exchange = self._exchange = self._exchange or self._open_exchange(self.assoc)
        connection = exchange.connection
        try:
            while exchange.serve():
                self._idle_timer.restart()
                if not self.wait_for_peer(connection):
                    return
        except AbortedError:
            pdu, event = self._decode_pdu(bytearray(_ABORT_PDU))
            self._recv_pdu.put(pdu)
            self.event_queue.put(event)
        except ProtocolError:
            self.event_queue.put(INVALID_PDU)
        except InterruptedExchangeError:
            return
        except (ConnectionOverError, OSError):
            self.event_queue.put(CLOSED_BY_PEER)
        except Exception:
            log.exception("connection closed: error while receiving")
            self.event_queue.put(CLOSED_BY_PEER)
        else:
            super()._read_pdu_data()

    def _may_take_over(self) -> bool:
        """Whether a message may begin here, and pynetdicom has none in hand."""
        dimse = self.assoc.dimse
        return (
            self.state_machine.current_state == ESTABLISHED
            and dimse.message is None
            and not dimse.msg_queue.queue
            and not self.event_queue.queue
            and not self._kill_thread
        )

    def is_over(self) -> bool:
        """Whether this side wants to end the association."""
        return self._kill_thread or bool(self.to_provider_queue.queue)


class _Association(Association):
    def __init__(self, entity: Any, open_exchange: ExchangeFactory) -> None:
        super().__init__(entity, "acceptor")
        provider = _Provider(self, open_exchange)
        provider.artim_timer.timeout = self.acse_timeout
        provider._idle_timer.timeout = self.network_timeout  # noqa: SLF001 - as pynetdicom's setters do
        self.dul = provider
        self._reactor_checkpoint = _Bell()
        self._reactor_checkpoint.set()

    def ring(self) -> None:
        """Wake this thread: there may be a message, a release or an end."""
        self._reactor_checkpoint.rung.set()


class Server(ThreadedAssociationServer):
    """pynetdicom's acceptor, which may also take a socket that listens already.

    Parameters
    ----------
    listener : socket.socket, optional
        Shared by several processes.
    """

    request_queue_size = BACKLOG

    def __init__(self, *args: Any, listener: socket.socket | None = None, **named: Any) -> None:
        self._listener = listener
        super().__init__(*args, **named)

    def server_bind(self) -> None:
        """Bind, or take the socket that listens already."""
        if self._listener is None:
            super().server_bind()
            return
        self.socket.close()  # type: ignore[has-type]  # pynetdicom has no types
        self.socket = listener = self._listener
        listener.setblocking(False)  # another process may have been faster to accept
        self.server_address = listener.getsockname()

    def server_activate(self) -> None:
        """Listen, unless that is done."""
        if self._listener is None:
            super().server_activate()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its reads and writes block."""
        connection, address = super().get_request()
        connection.setblocking(True)
        return connection, address


class FastServer(Server):
    """Acceptor whose associations receive C-STOREs the fast way.

    Parameters
    ----------
    open_exchange : callable
        From an association to the `Exchange` of its accepted contexts.
    """

    def __init__(self, *args: Any, open_exchange: ExchangeFactory, **named: Any) -> None:
        self.open_exchange = open_exchange
        super().__init__(*args, request_handler=_Handler, **named)


class _Handler(RequestHandler):
    def _create_association(self) -> Association:
        """As pynetdicom's, which names its own classes and copies every context for every association."""
        server: Any = self.server
        association = _Association(self.ae, server.open_exchange)
        association._server = server  # noqa: SLF001 - as pynetdicom does
        association.name = f"AcceptorThread@{id(association):x}"
        association.set_socket(_Socket(association, client_socket=self.request))
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = server.contexts
        association.requestor.address_info = self.remote
        for event, bound in server._handlers.items():  # noqa: SLF001 - as pynetdicom does
            if isinstance(event, NotificationEvent):
                for handler in bound:
                    association.bind(event, handler[0], handler[1])
            elif bound:
                association.bind(event, *bound)
        return association

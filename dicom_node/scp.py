"""The receiving application entity: a pynetdicom acceptor with explicit contexts and limits.

C-STOREs take the fast way of `dicom_node.receiving`, or pynetdicom's own behind the switch `is_fast`. Both
are held to the same conversations by `tests/dicom_node/test_scp.py`.
"""

import os
import socket
import ssl
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog
from pynetdicom import build_context, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node import handlers
from dicom_node.contexts import (
    MAX_PDU_BYTES,
    NATIVE,
    TRANSFER_SYNTAXES,
    application_entity,
    prepare_pynetdicom,
    storage_classes,
)
from dicom_node.door import MOST, Door
from dicom_node.errors import PortInUseError
from dicom_node.flow import Flow, end_quietly
from dicom_node.handlers import Counters
from dicom_node.landing import FileLanding, Landing, Origin
from dicom_node.peers import Peers
from dicom_node.places import Part, Places
from dicom_node.receiving.association import FastServer, Server
from dicom_node.receiving.block import Blocks
from dicom_node.receiving.exchange import Context, Exchange
from dicom_node.services.provider import Provider
from dicom_node.spool import Spool
from dicom_node.tallies import Tallies, Tally
from dicom_node.tls import TlsServer

MAX_ASSOCIATIONS = 64
ACSE_TIMEOUT_S = 10.0  # a connection that says nothing holds its place this long
DIMSE_TIMEOUT_S = 30.0
NETWORK_TIMEOUT_S = 60.0  # idle, or inside one PDU
STOP_TIMEOUT_S = 5.0  # for handlers under way; their threads end with the process
DEFAULT_MAX_INSTANCE_BYTES = 1024**3

log = structlog.get_logger(__name__)


class Receiver:
    """Storage and verification SCP that hands instances to a spool.

    Parameters
    ----------
    spool : Spool
    aet : str
        AE title that must be called.
    host : str
        Address to listen on.
    port : int
        0 takes a free one.
    peers : Peers
        Who may send.
    max_instance_bytes : int
        A larger instance ends its association.
    max_associations : int
        More, over all processes of the node, are rejected as transient.
    services : Provider, optional
        What is answered beside storage and verification.
    tls : callable, optional
        Gives the context of a connection, as `dicom_node.certificates.Followed`; unset, they are plain.
    is_fast : bool
        Whether C-STOREs take the fast way, where the system knows it (Linux).
    landing : Landing, optional
        First home of what comes the fast way; unset, files of the spool.
    listener : socket.socket, optional
        Listening already, at `host` and `port`.
    connections, associations : Part, optional
        Where this process of several notes who is inside; unset, it is the only one.
    tally : Tally, optional
        Where this process counts what happened, for metrics.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        aet: str,
        host: str,
        port: int,
        peers: Peers,
        max_instance_bytes: int = DEFAULT_MAX_INSTANCE_BYTES,
        max_associations: int = MAX_ASSOCIATIONS,
        acse_timeout_s: float = ACSE_TIMEOUT_S,
        network_timeout_s: float = NETWORK_TIMEOUT_S,
        services: Provider | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        is_fast: bool = True,
        landing: Landing | None = None,
        listener: socket.socket | None = None,
        connections: Part | None = None,
        associations: Part | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tallies(1).of(0)
        self.counters = Counters(self._tally)
        self._spool = spool
        self._address = (host, port)
        self._peers = peers
        self._max_instance_bytes = max_instance_bytes
        self._network_timeout_s = network_timeout_s
        self._services = services
        self._tls = tls
        self._is_fast = is_fast and hasattr(os, "eventfd")
        self._landing = landing or FileLanding(spool)
        self._listener = listener
        self._blocks = Blocks()
        self._server: ThreadedAssociationServer | None = None
        self._door = Door(connections or Places().of(0))
        self._associations = associations or Places().of(0)
        self._max_associations = max_associations
        self._flows: weakref.WeakKeyDictionary[Any, Flow] = weakref.WeakKeyDictionary()
        self._entity = application_entity(aet)
        self._entity.maximum_associations = MOST  # connections are counted at the door, associations below
        self._entity.maximum_pdu_size = MAX_PDU_BYTES
        self._entity.acse_timeout = acse_timeout_s
        self._entity.dimse_timeout = DIMSE_TIMEOUT_S
        self._entity.network_timeout = network_timeout_s
        self._entity.require_called_aet = True

    @property
    def port(self) -> int:
        """Port it listens on; before `start` the one it was given."""
        return self._address[1] if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Returns when associations are accepted.

        Raises
        ------
        PortInUseError
            If the address is taken.
        """
        prepare_pynetdicom()
        removed = self._spool.sweep()
        if removed:
            log.info("left-over files removed", count=removed)
        # pynetdicom writes what it receives to a temporary file; here it is on the spool's own disk.
        tempfile.tempdir = str(self._spool.incoming)
        try:
            self._server = self._serve()
            self._keep_the_door(self._server)
        except OSError as error:
            host, port = self._address
            raise PortInUseError(
                f"The node cannot listen on {host} port {port}: {error.strerror}. "
                "Stop what uses the port, or set another with VIGIL_PORT."
            ) from error

    def _serve(self) -> Any:
        way: dict[str, Any] = {"server_class": Server}
        if self._tls is not None:  # the fast way reads from plain sockets alone
            way = {"server_class": TlsServer, "tls": self._tls}
        elif self._is_fast:
            way = {"server_class": FastServer, "open_exchange": self._open_exchange}
        server: Any = self._entity.make_server(
            self._address,
            contexts=self._contexts(),
            evt_handlers=self._bindings(),
            listener=self._listener,
            **way,
        )
        self._entity._servers.append(server)  # noqa: SLF001 - as `start_server` does
        threading.Thread(target=server.serve_forever, name="AcceptorServer", daemon=True).start()
        return server

    def _contexts(self) -> list[Any]:
        return [
            build_context(Verification, list(NATIVE)),
            *(build_context(uid, list(TRANSFER_SYNTAXES)) for uid in storage_classes()),
            *(self._services.contexts() if self._services else ()),
        ]

    def _open_exchange(self, association: Any) -> Exchange:
        storage = frozenset(storage_classes())
        sender = str(association.requestor.ae_title).strip()
        provider = association.dul
        return Exchange(
            connection=provider.socket.socket,
            contexts={
                context.context_id: Context(
                    str(context.abstract_syntax), Origin(str(context.transfer_syntax[0]), sender)
                )
                for context in association.accepted_contexts
                if context.abstract_syntax in storage
            },
            landing=self._landing,
            counters=self.counters,
            blocks=self._blocks,
            max_instance_bytes=self._max_instance_bytes,
            pdu_timeout_s=self._network_timeout_s,
            is_over=provider.is_over,
        )

    def stop(self) -> None:
        """Stop listening and abort what is under way; senders send again what got no answer."""
        server = self._server
        if server is None:
            return
        self._server = None
        server.shutdown()
        open_now = server.active_associations
        for association in open_now:
            association.abort(block=False)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for association in open_now:
            association.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _bindings(self) -> list[Any]:
        return [
            *(self._services.observers(self._associations) if self._services else ()),
            (evt.EVT_CONN_OPEN, self._bound_connection),
            (evt.EVT_FSM_TRANSITION, self._connection_over),
            (evt.EVT_REQUESTED, handlers.reject_strangers, [self._peers, self.counters]),
            (evt.EVT_REQUESTED, self._give_place),
            (evt.EVT_REJECTED, handlers.count_rejection, [self.counters]),
            *(
                (event, self._counted(f"association_{outcome}"))
                for event, outcome in (
                    (evt.EVT_ACCEPTED, "accepted"),
                    (evt.EVT_RELEASED, "released"),
                    (evt.EVT_ABORTED, "aborted"),
                )
            ),
            (evt.EVT_DIMSE_RECV, lambda event: self._flows[event.assoc].message_complete(event.message)),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            *(
                (kind, self._taken(run))
                for kind, run in (self._services.handlers() if self._services else ())
            ),
        ]

    def _counted(self, name: str) -> Callable[[Any], None]:
        """Observer that counts its event for all processes."""
        return lambda _: self._tally.add(name)

    def _taken(self, handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Handler that counts its message as taken."""

        def run(event: Any) -> Any:
            self._flows[event.assoc].message_taken()
            return handle(event)

        return run

    def _bound_connection(self, event: Any) -> None:
        """EVT_CONN_OPEN comes before the association's threads start, so nothing is read unbounded."""
        connection = event.assoc.dul.socket
        flow = Flow(
            connection,
            max_message_bytes=self._max_instance_bytes,
            pdu_timeout_s=self._network_timeout_s,
        )
        self._flows[event.assoc] = flow
        self._door.enter(event.assoc, event.address[0])
        connection.recv = flow.recv
        end_quietly(event.assoc, flow)

    def _keep_the_door(self, server: Any) -> None:
        """Ask the door first, then the server itself, before a connection gets a thread."""
        verify = server.verify_request
        server.verify_request = lambda request, client: (
            self._door.admits(client[0]) and verify(request, client)
        )

    def _connection_over(self, event: Any) -> None:
        """EVT_FSM_TRANSITION to idle: the one event that comes however a connection ends (PS3.8 9.2.1)."""
        if event.next_state == "Sta1":
            self._flows[event.assoc].end(event.assoc)
            self._door.leave(event.assoc)
            self._associations.leave(event.assoc)
            if event.assoc.requestor.primitive is None:
                # Nobody asked for an association, and nobody will: else its thread would wait for a request
                # until the time-out, and a scan of the port would take every place.
                event.assoc.dul.to_user_queue.put(None)

    def _give_place(self, event: Any) -> None:
        """EVT_REQUESTED, after strangers were rejected: so many associations and no more."""
        association = event.assoc
        address = association.requestor.address_info.address
        if not association.is_rejected and not self._associations.enter(
            association, address, most=self._max_associations
        ):
            handlers.reject_for_now(association, self.counters, "too many associations are open")

    def _echo(self, event: Any) -> int:
        self._flows[event.assoc].message_taken()
        return handlers.handle_echo(event)

    def _store(self, event: Any) -> Any:
        is_whole = self._flows[event.assoc].message_taken(event.dataset_path)
        return handlers.handle_store(event, self._spool, self.counters, is_whole=is_whole)

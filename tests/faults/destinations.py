"""Where results go: a store that counts what it is given, and a wire that misbehaves on request."""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, _config, evt
from pynetdicom.sop_class import Verification

from dicom_node.elements import read_file_meta
from tests.end_to_end.peers import free_port

COUNTING_AET = "COUNTING"
_CHUNK = 4096
_SLOW_PAUSE_S = 0.05
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER that makes close() send RST


@dataclass(slots=True)
class CountingStore:
    """A storage SCP that remembers every C-STORE it was sent.

    Attributes
    ----------
    port : int
    received : dict of str to list of str
        SOP Instance UID to the digests of the data sets sent under it, in order.
    on_receipt : callable or None
        Called with the UID when an object is kept and not yet answered.
    """

    port: int
    received: dict[str, list[str]] = field(default_factory=dict)
    on_receipt: Callable[[str], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def digests(self) -> dict[str, list[str]]:
        with self._lock:
            return {name: list(found) for name, found in self.received.items()}

    def keep(self, event: Any) -> int:
        sop_instance_uid = str(event.request.AffectedSOPInstanceUID)
        digest = hashlib.sha256(_data_set(event)).hexdigest()
        with self._lock:
            self.received.setdefault(sop_instance_uid, []).append(digest)
            act = self.on_receipt
        if act is not None:
            act(sop_instance_uid)
        return 0x0000


def _data_set(event: Any) -> bytes:
    """Data set as it was sent; a receiver of ours in this process makes pynetdicom write it to a file."""
    if not _config.STORE_RECV_CHUNKED_DATASET:
        return bytes(event.encoded_dataset(include_meta=False))
    with Path(event.dataset_path).open("rb") as file:
        read_file_meta(file)
        return file.read()


@contextmanager
def counting_store() -> Iterator[CountingStore]:
    """Run a counting store on a free port."""
    entity = AE(ae_title=COUNTING_AET)
    for context in StoragePresentationContexts:  # every syntax, so that nothing is sent another way
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    entity.maximum_associations = 50
    store = CountingStore(free_port())
    server = entity.start_server(
        ("127.0.0.1", store.port), block=False, evt_handlers=[(evt.EVT_C_STORE, store.keep)]
    )
    try:
        yield store
    finally:
        server.shutdown()
        for association in server.active_associations:
            association.abort()


class Manner(StrEnum):
    """How a wire treats who comes over it."""

    PASS = "passes everything"  # noqa: S105 - no password
    REFUSE = "refuses connections"
    RESET = "resets connections in mid transfer"
    SLOW = "passes a few bytes at a time"
    SILENT = "accepts and never answers"


@dataclass(slots=True)
class Wire:
    """A TCP relay in front of a peer.

    Attributes
    ----------
    target : tuple
        Host and port of the peer.
    port : int
    host : str
        Where it listens.
    """

    target: tuple[str, int]
    port: int
    host: str = "127.0.0.1"
    _manner: Manner = Manner.PASS
    _listener: socket.socket | None = None
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def misbehaving(self, manner: Manner) -> Iterator[None]:
        """Treat everybody so while the block runs; what is open when it begins is cut."""
        self._change(manner)
        try:
            yield
        finally:
            self._change(Manner.PASS)

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(20)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._cut()

    def _change(self, manner: Manner) -> None:
        self._manner = manner
        self._cut()
        if manner is Manner.REFUSE:
            self.stop()
        elif self._listener is None:
            self.start()

    def _cut(self) -> None:
        with self._lock:
            opened, self._open = self._open, set()
        for end in opened:
            _reset(end)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            manner = self._manner
            with self._lock:
                self._open.add(caller)
            if manner is Manner.SILENT:
                continue
            try:
                peer = socket.create_connection(self.target, timeout=10)
            except OSError:
                _reset(caller)
                continue
            peer.settimeout(None)
            with self._lock:
                self._open.add(peer)
            for source, sink in ((caller, peer), (peer, caller)):
                threading.Thread(target=self._relay, args=(source, sink, manner), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, manner: Manner) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(64 if manner is Manner.SLOW else _CHUNK):
                if manner is Manner.SLOW:
                    time.sleep(_SLOW_PAUSE_S)
                passed += len(data)
                if manner is Manner.RESET and passed > _CHUNK:
                    _reset(source)
                    _reset(sink)
                    return
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(end)
            end.close()


@contextmanager
def wire_to(port: int, *, host: str) -> Iterator[Wire]:
    """Relay to a port of this machine, on a free one of an address of it."""
    wire = Wire(("127.0.0.1", port), free_port(), host)
    wire.start()
    try:
        yield wire
    finally:
        wire.stop()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RD)
    with suppress(OSError):
        end.close()

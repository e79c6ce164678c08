"""What real senders say: a proxy that writes down the bytes of each connection on their way to the node."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 1 << 16


@dataclass(slots=True)
class Recorder:
    """A port that passes everything on, and what came to it.

    Attributes
    ----------
    port : int
    conversations : list of bytes
        What each peer sent, in the order in which they connected; complete once the peer is gone.
    """

    port: int
    conversations: list[bytearray] = field(default_factory=list)


@contextmanager
def recording(target: int) -> Iterator[Recorder]:
    """Listen in front of a port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    recorder = Recorder(listener.getsockname()[1])
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                node = socket.create_connection(("127.0.0.1", target), timeout=30)
                recorder.conversations.append(bytearray())
                threads.append(
                    threading.Thread(target=_converse, args=(peer, node, recorder.conversations[-1]))
                )
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield recorder
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join(30)


def _converse(peer: socket.socket, node: socket.socket, written: bytearray) -> None:
    with peer, node:
        back = threading.Thread(target=_pass_on, args=(node, peer, bytearray()))
        back.start()
        _pass_on(peer, node, written)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket, written: bytearray) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            written += chunk
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

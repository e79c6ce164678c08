"""A syslog receiver over TLS, and ways in which receivers go wrong."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.certificates import Certificates


@dataclass
class SyslogReceiver:
    """What a receiver got, message by message. `serve` may be replaced to behave badly."""

    port: int
    received: list[bytes] = field(default_factory=list)
    peers: list[str | None] = field(default_factory=list)
    serve: Callable[["SyslogReceiver", ssl.SSLSocket], None] = lambda receiver, channel: receiver.read(
        channel
    )

    def read(self, channel: ssl.SSLSocket) -> None:
        """Take frames until the sender has said that this was all, and say so too (RFC 5425 4.4)."""
        stream = channel.makefile("rb")
        while length := _length(stream.read(1), stream.read):
            self.received.append(stream.read(length))
        channel.unwrap()


def _length(first: bytes, read: Callable[[int], bytes]) -> int:
    digits = first
    while digits and (letter := read(1)) != b" ":
        digits += letter
    return int(digits or b"0")


@contextmanager
def receiving(
    certificates: Certificates, *, port: int = 0, asks: bool = False, is_old: bool = False
) -> Iterator[SyslogReceiver]:
    """Run a receiver; with `asks` it wants a certificate of the authority's, an old one speaks TLS 1.1."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.node, Certificates.key(certificates.node))
    if is_old:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        tls.set_ciphers("ALL:@SECLEVEL=0")
    if asks:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(certificates.authority)
    listener = socket.create_server(("127.0.0.1", port))
    receiver = SyslogReceiver(listener.getsockname()[1])

    def take(plain: socket.socket) -> None:
        with tls.wrap_socket(plain, server_side=True) as channel:
            shown = channel.getpeercert() or {}
            names = [name for part in shown.get("subject", ()) for _, name in part]
            receiver.peers.append(str(names[0]) if names else None)
            receiver.serve(receiver, channel)

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(30)
            with plain, suppress(OSError, ssl.SSLError, ValueError):
                take(plain)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield receiver
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()

"""Messages to a syslog receiver over TLS, and the certainty that it has them (RFC 5424, RFC 5425).

Syslog answers nothing. What a receiver must do is answer the end of a TLS session with its own
(RFC 5425 4.4). A batch is therefore a connection of its own, and has arrived when the receiver closed it and
its machine has acknowledged every byte: a receiver that ends with bytes unread, or before they came, has its
machine reset the connection instead.
"""

import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dicom_node.certificates import Followed
from service.errors import SettingsError, TriageError

PRIORITY = 10 * 8 + 5  # security messages, notice: as DICOM asks (PS3.15 A.6)
MESSAGE_ID = "DICOM+RFC3881"
BOM = b"\xef\xbb\xbf"  # says that what follows is UTF-8 (RFC 5424 6.4)
CONNECT_S = 5.0
SEND_S = 15.0  # for a whole batch, its end included; below what the database allows a transaction to rest
LOOK_S = 0.005
GONE_S = 2.0  # for a receiver that has said goodbye to close the connection
LONGEST_HOST = 255


class RepositoryAwayError(TriageError):
    """The audit repository does not take messages. Nothing is lost: they wait in the audit trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A syslog receiver.

    Attributes
    ----------
    host : str
    port : int
    tls : callable
        Gives the context of a connection: certificates are renewed while we run.
    """

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext]

    @classmethod
    def open(cls, address: str, *, authorities: Path | None, certificate: Path | None) -> "Receiver":
        """Receiver at ``HOST:PORT``; connects to it only to send.

        Raises
        ------
        SettingsError
            If a certificate cannot be read.
        """
        host, _, port = address.rpartition(":")

        def read() -> ssl.SSLContext:
            tls = ssl.create_default_context(cafile=authorities)
            if certificate is not None:
                tls.load_cert_chain(certificate)
            return tls

        try:
            tls = Followed(read, *(path for path in (authorities, certificate) if path is not None))
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(
                f"VIGIL_AUDIT_SYSLOG: a certificate cannot be read ({type(error).__name__})."
            ) from error
        return cls(host=host.strip("[]"), port=int(port), tls=tls)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order and return when the receiver has them all.

        Raises
        ------
        RepositoryAwayError
            If it may not have them all; it may have some.
        """
        deadline = time.monotonic() + SEND_S
        try:
            plain = socket.create_connection((self.host, self.port), timeout=CONNECT_S)
            with plain, self.tls().wrap_socket(plain, server_hostname=self.host) as channel:
                for sent in messages:
                    channel.settimeout(max(deadline - time.monotonic(), 0.001))
                    channel.sendall(frame(sent))
                channel.settimeout(max(deadline - time.monotonic(), 0.001))
                _end(channel, deadline)
        except (OSError, ssl.SSLError) as error:
            raise RepositoryAwayError(f"{RepositoryAwayError.__doc__} ({type(error).__name__})") from error


def syslog_message(body: bytes, *, at: datetime, host: str) -> bytes:
    """Return a message with its header (RFC 5424 6).

    Parameters
    ----------
    body : bytes
        UTF-8.
    at : datetime
        Aware.
    host : str
    """
    stamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"<{PRIORITY}>1 {stamp} {host} vigil - {MESSAGE_ID} - ".encode("ascii") + BOM + body


def frame(message: bytes) -> bytes:
    """Return a message with its length before it (RFC 5425 4.3)."""
    return b"%d %b" % (len(message), message)


def host_name() -> str:
    """Name of this machine as a syslog header may hold it: printable ASCII, no space."""
    name = "".join(letter for letter in socket.gethostname() if "!" <= letter <= "~")
    return name[:LONGEST_HOST] or "-"


def _end(channel: ssl.SSLSocket, deadline: float) -> None:
    """Say that this was all, and return when the receiver has it.

    Raises
    ------
    OSError
        If it may not have it.
    """
    descriptor: socket.socket = channel
    with suppress(ssl.SSLEOFError):  # some close without the word; what they had not read shows below
        descriptor = channel.unwrap()
    while _unacknowledged(descriptor):
        _raise_reset(descriptor)  # what it refused is never acknowledged
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(LOOK_S)
    descriptor.shutdown(socket.SHUT_WR)
    descriptor.settimeout(GONE_S)
    with suppress(TimeoutError):  # one that keeps it open has said goodbye all the same
        descriptor.recv(1)  # the end, or a reset: its goodbye came before it had read all
    _raise_reset(descriptor)


def _raise_reset(channel: socket.socket) -> None:
    if broken := channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(broken, "the receiver's machine refused what was sent")


def _unacknowledged(channel: socket.socket) -> int:
    """Bytes sent that the other machine has not acknowledged (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(channel.fileno(), termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", answer)[0])

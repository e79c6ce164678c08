"""What is shown over TLS, and whom we believe: the BCP 195 profile (PS3.15 B.12)."""

import hashlib
import hmac
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.peer import Certificate

# Forward secrecy and authenticated encryption alone (RFC 9325 4.2); TLS 1.3 has nothing else.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"

log = structlog.get_logger(__name__)


def serving_context(certificate: Path, authorities: Path, key: Path | None = None) -> ssl.SSLContext:
    """What the node shows, and whom it believes: every peer must have a certificate.

    Parameters
    ----------
    certificate : Path
        PEM file of the node's certificate and the chain behind it.
    authorities : Path
        PEM file of the authorities whose peers are let in.
    key : Path, optional
        PEM file of the private key; unset, it stands in the certificate's file.

    Raises
    ------
    OSError
        If a file cannot be used; ``ssl.SSLError`` is one.
    """
    return _context(ssl.PROTOCOL_TLS_SERVER, certificate, authorities, key)


def calling_context(certificate: Path, authorities: Path, key: Path | None = None) -> ssl.SSLContext:
    """As `serving_context`, for the side that calls; the name of the called host is checked.

    Raises
    ------
    OSError
        If a file cannot be used; ``ssl.SSLError`` is one.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, authorities, key)


def _context(
    protocol: ssl._SSLMethod, certificate: Path, authorities: Path, key: Path | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authorities)
    return context


class Followed:
    """TLS of files that are renewed while we run: every connection gets what they hold then.

    What cannot be used, as a certificate whose key is not written yet, changes nothing: connections go on
    with what was read before. An authority that is taken out of its file is believed no more.

    Parameters
    ----------
    read : callable
        Reads the files; raises OSError where they cannot be used.
    *files : Path

    Raises
    ------
    OSError
        If they cannot be used now; ``ssl.SSLError`` is one.
    """

    def __init__(self, read: Callable[[], ssl.SSLContext], *files: Path) -> None:
        self._read = read
        self._files = files
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._context = read()

    def __call__(self) -> ssl.SSLContext:
        """Context of the next connection."""
        with self._lock:
            stamps = self._look()  # before they are read: what changes meanwhile is seen at the next look
            if stamps != self._stamps:
                self._stamps = stamps
                try:
                    self._context = self._read()
                except OSError as error:  # ssl.SSLError is one
                    reason = getattr(error, "reason", None) or type(error).__name__
                    log.error("certificate not taken over, the one before goes on", reason=reason)  # noqa: TRY400 - not a defect
                else:
                    log.info("certificate read again")
            return self._context

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What of a file is another when it was written again, or another put in its place."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def fingerprint_of(connection: Any) -> str | None:
    """SHA-256 of the certificate the other side showed, hexadecimal; None where the connection is plain."""
    shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    return hashlib.sha256(shown).hexdigest() if shown else None


def is_shown(certificate: Certificate | None, fingerprint: str | None) -> bool:
    """Whether a peer showed what its profile demands; without a demand anything will do."""
    if certificate is None or certificate.sha256 is None:
        return True
    wanted = certificate.sha256.replace(":", "").lower()
    return fingerprint is not None and hmac.compare_digest(wanted, fingerprint)


def context_for(certificate: Certificate | None) -> ssl.SSLContext | None:
    """What a peer is called with; None where its profile names no certificate of ours.

    Raises
    ------
    DestinationBusyError
        If a file cannot be used: an operator mends it, and the delivery waits.
    """
    if certificate is None or certificate.own is None or certificate.ca is None:
        return None
    try:
        return calling_context(certificate.own, certificate.ca)
    except OSError as error:  # ssl.SSLError is one
        raise DestinationBusyError("The certificate files for this peer cannot be used.") from error


def shake_hands(connection: socket.socket, *, host: str, certificate: Certificate | None) -> socket.socket:
    """Connection over TLS where the peer's profile names a certificate of ours, else as it was.

    Raises
    ------
    OSError
        If the handshake fails; ``ssl.SSLError`` is one.
    DestinationBusyError
        If a file cannot be used.
    DestinationRefusedError
        If the peer shows another certificate than its profile demands, or none.
    """
    context = context_for(certificate)
    if context is None:
        demand_certificate(connection, certificate)
        return connection
    secured = context.wrap_socket(connection, server_hostname=host)
    try:
        demand_certificate(secured, certificate)
    except DestinationRefusedError:
        secured.close()
        raise
    return secured


def demand_certificate(connection: Any, certificate: Certificate | None) -> None:
    """Raise DestinationRefusedError where the peer showed another certificate than its profile demands."""
    if not is_shown(certificate, fingerprint_of(connection)):
        raise DestinationRefusedError("The peer shows no or another certificate than its profile demands.")

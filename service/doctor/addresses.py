"""Where a peer or a channel is called."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from dicom_node.channel import Channel, Hl7Channel, Hl7Role
from dicom_node.peer import Peer, Role

HTTP, HTTPS = 80, 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Host and port, and whether it is spoken to over TLS."""

    host: str
    port: int
    is_encrypted: bool


def address_of(one: Peer | Channel) -> Address | None:
    """Where somebody of the peers file is called; None where it only calls us."""
    if isinstance(one, Peer):
        if one.url is not None:
            return address_in(one.url)
        if one.port is None or not one.roles - {Role.SENDER}:
            return None
        return _plain(one.host, one.port, one)
    if isinstance(one, Hl7Channel):
        if one.port is None or Hl7Role.RESULTS not in one.roles:
            return None
        return _plain(one.host, one.port, one)
    return address_in(one.url)


def address_in(url: str) -> Address:
    """Where an HTTP address leads."""
    parts = urlsplit(url)
    is_encrypted = parts.scheme == "https"
    return Address(
        host=parts.hostname or "",
        port=parts.port or (HTTPS if is_encrypted else HTTP),
        is_encrypted=is_encrypted,
    )


def _plain(host: str, port: int, one: Peer | Hl7Channel) -> Address:
    certificate = one.certificate
    return Address(host=host, port=port, is_encrypted=certificate is not None and certificate.own is not None)

"""Until when the certificates hold that we show, and those that others show us."""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from dicom_node.certificates import context_for
from dicom_node.errors import DeliveryError
from dicom_node.peer import Certificate
from dicom_node.peers import Peers
from service import reception
from service.doctor.addresses import Address, address_in, address_of
from service.doctor.answers import Check, failed, failure, ok, unused, warning
from service.errors import SettingsError
from service.provider import Provider
from service.settings import Settings
from service.syslog import Receiver

SOON = timedelta(days=30)
CONNECT_S = 5.0
AT_ONCE = 8
PAIR = (
    "Put certificate, chain and its own key, as PEM, into the file of VIGIL_TLS_CERTIFICATE, and the"
    " certificates of your peers' authorities into that of VIGIL_TLS_AUTHORITIES."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An address where somebody shows a certificate, and whom we believe there."""

    whose: str
    address: Address
    context: Callable[[], ssl.SSLContext]


def examine(settings: Settings, peers: Peers | None) -> Iterator[Check]:
    """Files first, then what others show now."""
    found = [*_files(settings, peers)]
    if settings.tls_certificate is not None or settings.tls_authorities is not None:
        found.append(_pair(settings))
    lines = [*_lines(settings, peers)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found += [check for check in pool.map(_shown, lines) if check is not None]
    if found:
        yield from found
    else:
        yield unused("certificates", "all", "nothing here speaks TLS")


def _files(settings: Settings, peers: Peers | None) -> Iterator[Check]:
    ours: list[tuple[str, Path | None]] = [
        ("node", settings.tls_certificate),
        ("audit repository, ours", settings.audit_syslog_certificate),
    ]
    believed: list[tuple[str, Path | None]] = [
        ("authorities of peers", settings.tls_authorities),
        ("authorities of the audit repository", settings.audit_syslog_authorities),
    ]
    if peers is not None:
        for one in (*peers.all, *peers.channels):
            if one.certificate is not None:
                ours.append((f"{one.name}, ours", one.certificate.own))
                believed.append((f"{one.name}, authority", one.certificate.ca))
    yield from (_file(whose, path, min) for whose, path in ours if path is not None)
    # An authority that ran out may stand beside its successor.
    yield from (_file(whose, path, max) for whose, path in believed if path is not None)


def _file(whose: str, path: Path, counts: Callable[[list[datetime]], datetime]) -> Check:
    try:
        ends = [one.not_valid_after_utc for one in load_pem_x509_certificates(path.read_bytes())]
    except (OSError, ValueError) as error:
        return failed(
            *(
                "certificates",
                whose,
                f"{path.name} holds no certificate that can be read ({type(error).__name__})",
            ),
            "Put a PEM file there: the certificate, then the chain behind it.",
        )
    return _until(whose, counts(ends))


def _pair(settings: Settings) -> Check:
    """Whether the node can serve with its certificate and key."""
    try:
        reception.open_tls(settings)
    except SettingsError as error:
        return failure("certificates", "node serves", error, remedy=PAIR)
    return ok("certificates", "node serves", "certificate and key belong together")


def _until(whose: str, end: datetime) -> Check:
    left = end - datetime.now(UTC)
    told = f"until {end:%Y-%m-%d}"
    if left <= timedelta(0):
        return failed(
            "certificates",
            whose,
            f"ran out on {end:%Y-%m-%d}",
            "Have it renewed by its authority and put the new one in its place: the next connection has it.",
        )
    if left <= SOON:
        return warning(
            *("certificates", whose, f"{told}, {left.days} days"), "Have it renewed before it runs out."
        )
    return ok("certificates", whose, told)


def _lines(settings: Settings, peers: Peers | None) -> Iterator[Line]:
    """Every address that is called over TLS."""
    for one in (*peers.all, *peers.channels) if peers is not None else ():
        address = address_of(one)
        if address is not None and address.is_encrypted:
            yield Line(
                whose=one.name,
                address=address,
                context=partial(_context_of_peer, one.certificate),
            )
    if settings.audit_syslog is not None:
        receiver = partial(
            Receiver.open,
            settings.audit_syslog,
            authorities=settings.audit_syslog_authorities,
            certificate=settings.audit_syslog_certificate,
        )
        yield Line(
            whose="audit repository",
            address=address_in(f"https://{settings.audit_syslog}"),
            context=lambda: receiver().tls(),
        )
    yield from _provider_line(settings)


def _provider_line(settings: Settings) -> Iterator[Line]:
    if settings.oidc is None:
        return
    try:
        file = Provider.open(settings.oidc, settings.address).file
    except SettingsError:  # told where the provider is asked
        return
    address = address_in(file.issuer)
    if address.is_encrypted:
        yield Line(
            whose="identity provider",
            address=address,
            context=lambda: ssl.create_default_context(cafile=file.authorities),
        )


def _context_of_peer(certificate: Certificate | None) -> ssl.SSLContext:
    return context_for(certificate) or ssl.create_default_context()


def _shown(line: Line) -> Check | None:
    """Certificate that is shown now; None where nobody answers, which is told where the peer is asked."""
    whose = f"{line.whose} shows"
    try:
        context = line.context()
        where = line.address
        plain = socket.create_connection((where.host, where.port), timeout=CONNECT_S)
        with plain, context.wrap_socket(plain, server_hostname=where.host) as secured:
            shown = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return failed(
            "certificates",
            whose,
            f"we do not believe what is shown: {error.verify_message}",
            "Have the other side renew its certificate, or name the authority that signed it.",
        )
    except ssl.SSLError as error:
        return failed(
            *("certificates", whose, f"no TLS connection ({error.reason or type(error).__name__})"),
            "Let both sides speak TLS 1.2 or later, and let the other side believe our authority.",
        )
    except (OSError, DeliveryError, SettingsError):
        return None
    return _until(whose, datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC))

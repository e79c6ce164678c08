"""Whether those answer that Vigil speaks to: peers, channels, identity provider, audit repository."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from dicom_node.calls import Site
from dicom_node.channel import Channel
from dicom_node.errors import DeliveryError
from dicom_node.peer import Peer, Timeouts
from dicom_node.peers import Peers
from dicom_node.services.probe import Finding, probe
from service.doctor.addresses import Address, address_in, address_of
from service.doctor.answers import Check, failed, failure, guarded, ok, unused
from service.doctor.database import clock_check
from service.errors import SettingsError
from service.provider import Provider, ProviderAwayError, ProviderError
from service.settings import Settings

AT_ONCE = 8  # peers that do not answer wait side by side
HTTP_CLOCK_S = 5.0  # dates of HTTP count whole seconds, and answers take their time
# What a step of a probe lacks, and what would mend it; others are results by kind.
REMEDIES = {
    "name": "Correct its host in the peers file, or the name server.",
    "connection": "Start it, correct its host and port in the peers file, and look at firewalls in between.",
    "association": "Have it know our AE title {aet} at this address; check its AE title in the peers file.",
    "echo": "It takes associations and fails C-ECHO: look into its log.",
    "search": "Check its url and its authorization file in the peers file.",
    "commitment": "Have it offer storage commitment to {aet}, or set `confirm: query` or `none`.",
    "query": "Have it let {aet} query (C-FIND), or change its role or `confirm`.",
    "worklist": "Have it let {aet} query its worklist, or take the role away.",
}
RESULT = "Have it accept this class from {aet}, or name in `results` what it takes."


def examine(settings: Settings, peers: Peers | None) -> Iterator[Check]:
    """Everybody that the settings and the peers file name."""
    if peers is not None:
        asked = [
            partial(guarded, "peer", peer.name, partial(peer_check, peer, aet=settings.aet))
            for peer in peers.all
        ]
        asked += [
            partial(guarded, "channel", channel.name, partial(channel_check, channel))
            for channel in peers.channels
        ]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for checks in pool.map(lambda ask: [*ask()], asked):
                yield from checks
        if not asked:
            yield unused("peer", "all", "no peers file: this machine alone may send, results go nowhere")
    yield from guarded("identity provider", "answers", lambda: _provider(settings))
    yield from guarded("audit repository", "answers", lambda: [_repository(settings)])


def peer_check(peer: Peer, *, aet: str) -> Iterator[Check]:
    """One peer by its own test: connection, association, C-ECHO, and what its profile needs."""
    findings = [*probe(peer, calling_aet=aet)]
    lacking = [finding for finding in findings if finding.is_needed and not finding.is_ok]
    if [finding.step for finding in findings] == ["port"]:
        yield unused("peer", peer.name, "it calls us, we never call it")
    elif not lacking:
        yield ok("peer", peer.name, "answers, and offers what its profile needs")
    else:
        remedies = dict.fromkeys(REMEDIES.get(one.step, RESULT).format(aet=aet) for one in lacking)
        yield failed("peer", peer.name, "; ".join(map(_told, lacking)), " ".join(remedies))
    if peer.protocol == "dicomweb" and not lacking and peer.url is not None:
        yield from _clock(
            peer.name,
            Site(
                url=peer.url,
                authorization=peer.authorization,
                timeouts=peer.timeouts,
                certificate=peer.certificate,
            ),
        )


def channel_check(channel: Channel) -> Iterator[Check]:
    """Whether a channel's address can be reached; nothing is sent to it."""
    address = address_of(channel)
    if address is None:
        yield unused("channel", channel.name, "it sends orders, we never call it")
    else:
        yield _reaches("channel", channel.name, address, channel.timeouts)


def _reaches(part: str, about: str, address: Address, timeouts: Timeouts) -> Check:
    try:
        socket.create_connection((address.host, address.port), timeout=timeouts.connect_s).close()
    except OSError as error:
        return failed(
            part,
            about,
            f"nothing takes connections there: {error.strerror or type(error).__name__}",
            "Start it, correct its address, and look at firewalls in between; messages wait until then.",
        )
    return ok(part, about, "takes connections")


def _told(finding: Finding) -> str:
    return f"{finding.step}: {finding.detail}" if finding.detail else f"{finding.step} is not offered"


def _provider(settings: Settings) -> Iterator[Check]:
    if settings.oidc is None:
        yield unused("identity provider", "answers", "VIGIL_OIDC is unset: local accounts alone")
        return
    try:
        provider = Provider.open(settings.oidc, settings.address)
        provider.check()
    except SettingsError as error:
        yield failure("identity provider", "file", error)
    except ProviderAwayError:
        yield failed(
            "identity provider",
            "answers",
            "its description cannot be had",
            "Check `issuer` and `authorities` in the file of VIGIL_OIDC, and the way there. Local accounts"
            " still get in.",
        )
    except ProviderError as error:
        yield failure(
            "identity provider", "answers", error, remedy="Correct `issuer` in the file of VIGIL_OIDC."
        )
    else:
        yield ok("identity provider", "answers", "describes itself, with the keys it signs with")


def _repository(settings: Settings) -> Check:
    if settings.audit_syslog is None:
        return unused("audit repository", "answers", "VIGIL_AUDIT_SYSLOG is unset")
    address = address_in(f"https://{settings.audit_syslog}")
    return _reaches("audit repository", "answers", address, Timeouts())


def _clock(whose: str, site: Site) -> Iterator[Check]:
    """Clock of a web peer, by the date of any answer; one that tells none is let be."""
    try:
        before = datetime.now(UTC)
        with site.call("GET", "", headers={}) as answer:
            theirs = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        after = datetime.now(UTC)
    except (DeliveryError, KeyError, ValueError, ssl.SSLError):
        return
    yield clock_check(
        whose, (before - theirs).total_seconds(), (after - theirs).total_seconds(), tolerance_s=HTTP_CLOCK_S
    )

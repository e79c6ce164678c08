"""Settings to the parts that receive: what a node needs, and nothing that reads, scores or shows."""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import structlog

from dicom_node.certificates import Followed, serving_context
from dicom_node.errors import DicomNodeError
from dicom_node.identity import load_or_make_secret
from dicom_node.landing import FileLanding, Landing
from dicom_node.log.keeper import Keeper
from dicom_node.log.landing import LogLanding
from dicom_node.log.segments import SEGMENT_BYTES, Segments
from dicom_node.peers import Peers
from dicom_node.places import Places
from dicom_node.pulls import Pulls
from dicom_node.quota import Quota
from dicom_node.receiving.acceptors import Acceptors
from dicom_node.scp import Receiver
from dicom_node.services.commitment import Mailbox
from dicom_node.services.commitment_provider import CommitmentProvider
from dicom_node.services.provider import Provider
from dicom_node.signals import Signals
from dicom_node.spool import Spool
from dicom_node.tallies import Tallies
from service.errors import SettingsError
from service.places import make_data_folder
from service.settings import Settings

MB = 1024 * 1024


LOCK_TIMEOUT_S = 20.0  # for acceptors of a killed node to be gone

log = structlog.get_logger(__name__)


def open_peers(settings: Settings) -> Peers:
    """Peers of the file, or the rule for none: any calling AE title, from this machine alone.

    Raises
    ------
    PeersError
        If the file is not valid, or is named by the settings and not there.
    """
    return Peers.load(settings.peers_path, must_be_there=settings.peers is not None)


def open_spool(settings: Settings) -> Spool:
    """Spool of the data folder, with the site's secret."""
    make_data_folder(settings.data)
    return Spool(
        settings.spool_folder,
        load_or_make_secret(settings.key_path),
        free_mark_bytes=settings.free_mark_mb * MB,
    )


def open_signals(settings: Settings) -> Signals:
    """What peers tell about studies besides images."""
    return Signals(settings.signals_folder)


def open_mailbox(settings: Settings) -> Mailbox:
    """Where commitment reports go from the receiver to the delivery."""
    return Mailbox(settings.signals_folder / "commitment")


def open_pulls(settings: Settings) -> Pulls:
    """Where wishes for studies go from the receiver to whoever fetches them."""
    return Pulls(settings.signals_folder / "pulls")


@contextmanager
def _services(settings: Settings, spool: Spool, peers: Peers, segments: Segments) -> Iterator[Provider]:
    """What one acceptor answers beside storage."""
    signals = open_signals(settings)
    with ExitStack() as stack:
        commitment = None
        if settings.offer_commitment:
            commitment = CommitmentProvider(
                spool=spool,
                signals=signals,
                peers=peers,
                folder=settings.signals_folder / "requests",
                aet=settings.aet,
                is_settled=lambda: segments.is_at_rest() and not segments.sealed(),
            )
            commitment.start()
            stack.callback(commitment.stop)
        yield Provider(
            spool=spool,
            signals=signals,
            mailbox=open_mailbox(settings),
            peers=peers,
            pulls=open_pulls(settings),
            commitment=commitment,
        )


@contextmanager
def reception(
    settings: Settings, spool: Spool, peers: Peers, tallies: Tallies, *, on_loss: Callable[[], None]
) -> Iterator[Acceptors]:
    """Accept associations in processes of their own, until the block ends.

    Parameters
    ----------
    tallies : Tallies
        Where they count what happened.
    on_loss : callable
        Called, on a thread, if nothing accepts any more.

    Raises
    ------
    DicomNodeError
        If the address is taken.
    """
    tls = open_tls(settings)
    segments = Segments(settings.log_folder, count=max(settings.log_mb * MB // SEGMENT_BYTES, 1))
    is_ours = segments.lock(LOCK_TIMEOUT_S)
    if is_ours:
        _recover(Keeper(spool, segments))
    else:
        log.warning("the log is in use by another node: instances are files at once")
    spool.sweep_folders()
    quota = Quota(
        settings.spool_folder,
        limit_bytes=None if settings.spool_quota_mb is None else settings.spool_quota_mb * MB,
    )
    quota.begin()
    is_wanted = settings.landing == "log" and settings.receiver == "fast"
    is_logged = is_ours and is_wanted and _has_prepared(segments)

    count = settings.receiver_processes or min(2, os.cpu_count() or 1)
    connections, associations = Places(count), Places(count)

    @contextmanager
    def serve(listener: socket.socket, name: str) -> Iterator[Receiver]:
        with ExitStack() as stack:
            landing: Landing = FileLanding(spool)
            if is_logged:
                segments.abandon(name)  # of a predecessor that died
                landing = logged = LogLanding(spool, segments, owner=name)
                stack.callback(logged.close)
            receiver = Receiver(
                spool,
                aet=settings.aet,
                host=settings.host,
                port=settings.port,
                peers=peers,
                tls=tls,
                max_instance_bytes=settings.max_instance_mb * MB,
                is_fast=settings.receiver == "fast",
                landing=landing,
                listener=listener,
                connections=connections.of(int(name)),
                associations=associations.of(int(name)),
                tally=tallies.of(int(name)),
                services=stack.enter_context(_services(settings, spool, peers, segments)),
            )
            yield stack.enter_context(receiver)

    acceptors = Acceptors(serve, settings.host, settings.port, count, on_loss)
    stop = threading.Event()
    keeper = threading.Thread(target=Keeper(spool, segments).run, args=[stop], name="keeper")
    watch = threading.Thread(target=quota.run, args=[stop], name="quota")
    with acceptors:
        if is_ours:
            keeper.start()
        watch.start()
        try:
            yield acceptors
        finally:
            stop.set()
            watch.join()
            if is_ours:
                keeper.join()
    if is_ours:
        Keeper(spool, segments).empty()


def _recover(keeper: Keeper) -> None:
    """Make files of what an earlier run left, whichever home new instances have; a full disk delays it."""
    try:
        keeper.recover()
    except (DicomNodeError, OSError) as error:
        log.error("what is in the log waits for room on the disk", error=type(error).__name__)  # noqa: TRY400


def _has_prepared(segments: Segments) -> bool:
    """Whether the log can be used. The node starts without it too: a full disk is told to senders (I6)."""
    try:
        segments.prepare()
    except (DicomNodeError, OSError) as error:
        log.error("no room for the log: instances are files at once", error=type(error).__name__)  # noqa: TRY400
        return False
    return True


def open_tls(settings: Settings) -> Callable[[], ssl.SSLContext] | None:
    """Return what gives what the node shows a peer and whom it believes; None where connections are plain."""
    certificate, authorities = settings.tls_certificate, settings.tls_authorities
    if certificate is None and authorities is not None:
        raise SettingsError(
            "VIGIL_TLS_CERTIFICATE: name the node's certificate, for authorities alone encrypt nothing."
        )
    if certificate is None:
        return None
    if authorities is None:
        raise SettingsError(
            "VIGIL_TLS_AUTHORITIES: name the authorities of your peers, for they must show a certificate too."
        )
    try:
        return Followed(lambda: serving_context(certificate, authorities), certificate, authorities)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            "VIGIL_TLS_CERTIFICATE or VIGIL_TLS_AUTHORITIES: a file cannot be used "
            f"({error.strerror or type(error).__name__})."
        ) from error

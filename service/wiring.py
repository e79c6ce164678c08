"""Settings to parts: the only file that builds the real ones."""

import hashlib
import json
import ssl
from importlib.metadata import version
from pathlib import Path

from dicom_node.delivery import Destinations
from dicom_node.identity import load_or_make_secret
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.services.commitment import Mailbox
from dicom_node.services.commitment_provider import CommitmentProvider
from dicom_node.services.provider import Provider
from dicom_node.signals import Signals
from dicom_node.spool import Spool
from models import runtime
from models.artefact import CALIBRATION, Artefact, PictureArtefact, load_artefact
from models.calibration import identify, read_calibration
from models.catalogue import active_artefact
from models.predictor import load_predictor
from models.scores import ModelIdentity
from service import __version__
from service.deliver import Delivery
from service.errors import DatabaseError, SettingsError
from service.inquiry import Inquiry
from service.intake import Intake
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.objects import ResultFolder
from service.triage import Triage

# Libraries whose version can change the bytes of a result (standards: same UID, same bytes).
SHAPING = ("highdicom", "numpy", "pillow", "pydicom", "scipy")
MB = 1024 * 1024


def database_url(settings: Settings) -> str:
    """URL of the site's database, or of the embedded one."""
    return settings.database_url or EmbeddedDatabase(settings.data).url


def open_store(settings: Settings) -> Store:
    """Store on a database that answers.

    Raises
    ------
    DatabaseError
        If it does not; the message says what to do.
    """
    store = Store.open(database_url(settings))
    try:
        store.check()
    except DatabaseError as error:
        if settings.database_url is None:
            raise DatabaseError(
                "No Vigil runs on this data folder: its embedded database is down. Start it with `vigil up`, "
                "or set VIGIL_DATA to the folder of the one that runs."
            ) from error
        raise
    return store


def waiting_store(settings: Settings) -> Store:
    """Store for a role that goes on while its database is away; it connects on first use."""
    return Store.open(database_url(settings))


def open_peers(settings: Settings) -> Peers:
    """Peers of the file, or the rule for none: any calling AE title, from this machine alone."""
    return Peers.load(settings.peers_path)


def open_artefact(settings: Settings) -> Artefact | PictureArtefact:
    """Return the model to score with, every file verified."""
    return load_artefact(settings.model) if settings.model else active_artefact()


def model_identity(settings: Settings) -> ModelIdentity:
    """Return which model serves, without loading its network."""
    artefact = open_artefact(settings)
    return identify(artefact, read_calibration(artefact.path / CALIBRATION))


def open_spool(settings: Settings) -> Spool:
    """Spool of the data folder, with the site's secret."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Spool(
        settings.spool_folder,
        load_or_make_secret(settings.key_path),
        free_mark_bytes=settings.free_mark_mb * MB,
    )


def open_receiver(settings: Settings, spool: Spool, peers: Peers) -> Receiver:
    """Return the DICOM receiver; it does not listen yet."""
    tls = None
    if settings.tls_certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(settings.tls_certificate)
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(
                f"VIGIL_TLS_CERTIFICATE: the file cannot be used ({error.strerror})."
            ) from error
    return Receiver(
        spool,
        aet=settings.aet,
        host=settings.host,
        port=settings.port,
        peers=peers,
        tls=tls,
        max_instance_bytes=settings.max_instance_mb * MB,
        services=open_provider(settings, spool, peers),
    )


def open_provider(settings: Settings, spool: Spool, peers: Peers) -> Provider:
    """Return what the receiver answers beside storage."""
    signals = open_signals(settings)
    commitment = None
    if settings.offer_commitment:
        commitment = CommitmentProvider(
            spool=spool,
            signals=signals,
            peers=peers,
            folder=settings.signals_folder / "requests",
            aet=settings.aet,
        )
        commitment.start()
    return Provider(
        spool=spool, signals=signals, mailbox=open_mailbox(settings), peers=peers, commitment=commitment
    )


def open_signals(settings: Settings) -> Signals:
    """Return what peers tell about studies besides images."""
    return Signals(settings.signals_folder)


def config_digest(settings: Settings) -> str:
    """SHA-256 over everything besides the model that shapes a result."""
    # Asked of itself: its package has another name where it is made for a GPU.
    shaping = {"onnxruntime": runtime.VERSION, **{name: version(name) for name in SHAPING}}
    content = {"vigil": __version__, "max_voxels": settings.max_voxels, **shaping}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_intake(settings: Settings, store: Store, spool: Spool, peers: Peers) -> Intake:
    """Return the loop from spool to job."""
    signals = open_signals(settings)
    signals.sweep()
    return Intake(
        store=store,
        spool=spool,
        model_hash=open_artefact(settings).sha256,
        config_digest=config_digest(settings),
        quiet_s=lambda sender: peers.quiet_s(sender, default=settings.quiet_s),
        signals=signals,
        inquiry=Inquiry(peers=peers, spool=spool, calling_aet=settings.aet),
        longest_wait_s=settings.longest_wait_s,
    )


def open_triage(settings: Settings, store: Store) -> Triage:
    """Return what the inference worker does, its model loaded."""
    return Triage(
        store=store,
        spool_folder=settings.spool_folder,
        objects=ResultFolder(settings.results_folder),
        predictor=load_predictor(
            open_artefact(settings), threads=settings.threads, engines=settings.engines_folder
        ),
        config_digest=config_digest(settings),
        destinations=open_peers(settings).destinations_of,
        max_voxels=settings.max_voxels,
        attempts=settings.infer_attempts,
    )


def open_delivery(settings: Settings, store: Store) -> Delivery:
    """Return what the delivery worker does."""
    mailbox = open_mailbox(settings)
    mailbox.sweep()
    return Delivery(
        store=store,
        results_folder=settings.results_folder,
        destinations=Destinations(open_peers(settings), calling_aet=settings.aet),
        attempts=settings.deliver_attempts,
        mailbox=mailbox,
    )


def open_mailbox(settings: Settings) -> Mailbox:
    """Return where commitment reports go from the receiver to the delivery."""
    return Mailbox(settings.signals_folder / "commitment")


def open_reaper(settings: Settings, store: Store) -> Reaper:
    """Return the loop that brings back the work of dead workers."""
    return Reaper(store=store, stalled_s=settings.stalled_s)


def log_folder(settings: Settings) -> Path:
    """Return the folder of the roles' log files where a supervisor keeps them."""
    return settings.data / "logs"

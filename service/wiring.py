"""Settings to parts: the only file that builds the real ones."""

import hashlib
import json
import ssl
from importlib.metadata import version
from pathlib import Path

from dicom_node.delivery import Destination, open_destination
from dicom_node.identity import load_or_make_secret
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.spool import Spool
from dicom_node.tls import serving_context
from models import runtime
from models.artefact import CALIBRATION, Artefact, PictureArtefact, load_artefact
from models.calibration import identify, read_calibration
from models.catalogue import active_artefact
from models.predictor import load_predictor
from models.scores import ModelIdentity
from service import __version__
from service.deliver import Delivery
from service.errors import DatabaseError, SettingsError
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
    return Receiver(
        spool,
        aet=settings.aet,
        host=settings.host,
        port=settings.port,
        peers=peers,
        tls=_tls_of(settings),
        max_instance_bytes=settings.max_instance_mb * MB,
    )


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Return what the node shows its peers and whom it believes; None where connections are plain."""
    if settings.tls_certificate is None:
        return None
    if settings.tls_authorities is None:
        raise SettingsError(
            "VIGIL_TLS_AUTHORITIES: name the authorities of your peers, for they must show a certificate too."
        )
    try:
        return serving_context(settings.tls_certificate, settings.tls_authorities)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            "VIGIL_TLS_CERTIFICATE or VIGIL_TLS_AUTHORITIES: a file cannot be used "
            f"({error.strerror or type(error).__name__})."
        ) from error


def config_digest(settings: Settings) -> str:
    """SHA-256 over everything besides the model that shapes a result."""
    # Asked of itself: its package has another name where it is made for a GPU.
    shaping = {"onnxruntime": runtime.VERSION, **{name: version(name) for name in SHAPING}}
    content = {
        "vigil": __version__,
        "max_voxels": settings.max_voxels,
        "results": sorted(settings.result_kinds),
        **shaping,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_intake(settings: Settings, store: Store, spool: Spool, peers: Peers) -> Intake:
    """Return the loop from spool to job."""
    return Intake(
        store=store,
        spool=spool,
        model_hash=open_artefact(settings).sha256,
        config_digest=config_digest(settings),
        quiet_s=lambda sender: peers.quiet_s(sender, default=settings.quiet_s),
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
        destinations=tuple(peer.name for peer in open_peers(settings).destinations),
        max_voxels=settings.max_voxels,
        kinds=settings.result_kinds,
        attempts=settings.infer_attempts,
    )


def open_delivery(settings: Settings, store: Store) -> Delivery:
    """Return what the delivery worker does."""
    destinations: dict[str, Destination] = {
        peer.name: open_destination(peer, calling_aet=settings.aet)
        for peer in open_peers(settings).destinations
    }
    return Delivery(
        store=store,
        results_folder=settings.results_folder,
        destinations=destinations,
        attempts=settings.deliver_attempts,
    )


def open_reaper(settings: Settings, store: Store) -> Reaper:
    """Return the loop that brings back the work of dead workers."""
    return Reaper(store=store, stalled_s=settings.stalled_s)


def log_folder(settings: Settings) -> Path:
    """Return the folder of the roles' log files where a supervisor keeps them."""
    return settings.data / "logs"

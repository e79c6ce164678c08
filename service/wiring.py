"""Settings to parts: with `service.reception`, which builds what receives, the only file that does."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from dicom_node.delivery import Destinations
from dicom_node.peers import Peers
from dicom_node.spool import Spool
from models import runtime
from models.artefact import CALIBRATION, Artefact, PictureArtefact, load_artefact
from models.calibration import identify, read_calibration
from models.catalogue import active_artefact
from models.predictor import load_predictor
from models.scores import ModelIdentity
from service import __version__
from service.deliver import Delivery
from service.errors import DatabaseError
from service.inquiry import Inquiry
from service.intake import Intake
from service.reaper import Reaper
from service.reception import open_mailbox, open_peers, open_signals
from service.settings import Settings
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import require
from service.store.objects import ResultFolder
from service.triage import Triage

# Libraries whose version can change the bytes of a result (standards: same UID, same bytes).
SHAPING = ("highdicom", "numpy", "pillow", "pydicom", "scipy")


def database_url(settings: Settings) -> str:
    """URL of the site's database, or of the embedded one."""
    return settings.database_url or EmbeddedDatabase(settings.data).url


def open_store(settings: Settings) -> Store:
    """Store on a database that answers and that this release may work on.

    Raises
    ------
    DatabaseError, SchemaError
        Else; the message says what to do.
    """
    store = open_any_store(settings)
    require(store)
    return store


def open_any_store(settings: Settings) -> Store:
    """Store on a database that answers, whatever its schema.

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


def open_artefact(settings: Settings) -> Artefact | PictureArtefact:
    """Return the model to score with, every file verified."""
    return load_artefact(settings.model) if settings.model else active_artefact()


def model_identity(settings: Settings) -> ModelIdentity:
    """Return which model serves, without loading its network."""
    artefact = open_artefact(settings)
    return identify(artefact, read_calibration(artefact.path / CALIBRATION))


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
        kinds=settings.result_kinds,
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


def open_reaper(settings: Settings, store: Store) -> Reaper:
    """Return the loop that brings back the work of dead workers."""
    return Reaper(store=store, stalled_s=settings.stalled_s, longest_queue_s=settings.longest_queue_s)


def log_folder(settings: Settings) -> Path:
    """Return the folder of the roles' log files where a supervisor keeps them."""
    return settings.data / "logs"

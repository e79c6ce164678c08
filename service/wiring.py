"""Settings to parts: with `service.reception`, which builds what receives, the only file that does."""

import hashlib
import json
import threading
from importlib.metadata import version
from pathlib import Path

from dicom_node.delivery import Destinations
from dicom_node.peers import Peers
from dicom_node.spool import Spool
from models import runtime
from models.artefact import Artefact, PictureArtefact
from models.batcher import Batcher
from models.predictor import load_predictor
from models.scores import ModelIdentity
from service import __version__
from service.active import ActiveModel
from service.deliver import Delivery
from service.errors import DatabaseError
from service.inquiry import Inquiry
from service.intake import Intake
from service.meters import Meters
from service.reaper import Reaper
from service.reception import MB, open_mailbox, open_peers, open_signals
from service.serving import Loaded, Serving
from service.settings import Settings
from service.shares import Shares
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.objects import ResultFolder
from service.triage import Triage

# Libraries whose version can change the bytes of a result (standards: same UID, same bytes).
SHAPING = ("highdicom", "numpy", "pillow", "pydicom", "scipy")


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


def active_model(settings: Settings) -> ActiveModel:
    """Return which model is to serve, to be asked again and again."""
    return ActiveModel(data=settings.data, chosen=settings.model)


def open_artefact(settings: Settings) -> Artefact | PictureArtefact:
    """Return the model to score with, every file verified."""
    return active_model(settings).artefact()


def model_identity(settings: Settings) -> ModelIdentity:
    """Return which model serves, without loading its network."""
    return active_model(settings).identity()


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
    active = active_model(settings)
    return Intake(
        store=store,
        spool=spool,
        model_hash=active.identity().sha256,
        follow=lambda: active.identity().sha256,
        config_digest=config_digest(settings),
        quiet_s=lambda sender: peers.quiet_s(sender, default=settings.quiet_s),
        signals=signals,
        inquiry=Inquiry(peers=peers, spool=spool, calling_aet=settings.aet),
        longest_wait_s=settings.longest_wait_s,
    )


def open_serving(settings: Settings, meters: Meters) -> Serving:
    """Return the model in service, loaded and warm, with the thread that fills its batches."""
    device = threading.Lock()  # one batch at a time, also while one model takes the place of another

    def load(artefact: Artefact | PictureArtefact) -> Loaded:
        predictor = load_predictor(
            artefact,
            threads=settings.threads,
            engines=settings.engines_folder,
            server=settings.triton,
        )
        batcher = Batcher(
            predictor.runner,
            predictor.examples(),
            wait_s=settings.batch_wait_ms / 1000,
            turn=device,
            observer=meters,
        )
        return Loaded(predictor, batcher)

    return Serving(active_model(settings), load, told=meters.changed)


def open_triage(settings: Settings, store: Store, serving: Serving) -> Triage:
    """Return what the inference worker does."""
    return Triage(
        store=store,
        spool_folder=settings.spool_folder,
        objects=ResultFolder(settings.results_folder),
        models=serving,
        config_digest=config_digest(settings),
        destinations=open_peers(settings).destinations_of,
        max_voxels=settings.max_voxels,
        kinds=settings.result_kinds,
        attempts=settings.infer_attempts,
        places=Shares(settings.infer_jobs),
        memory=Shares(settings.memory_mb * MB),
        scratch_folder=settings.scratch_folder,
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
    return Reaper(store=store, stalled_s=settings.stalled_s)


def log_folder(settings: Settings) -> Path:
    """Return the folder of the roles' log files where a supervisor keeps them."""
    return settings.data / "logs"

"""Settings to parts: with `service.reception`, which builds what receives, the only file that does."""

import atexit
import hashlib
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from threading import Event

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
from service.admission import Admission
from service.audit_export import AuditExport
from service.clearing import Clearing
from service.deliver import Delivery
from service.errors import DatabaseError, SettingsError
from service.holdings import Holdings
from service.inquiry import Inquiry
from service.intake import Intake
from service.messages import Senders
from service.messenger import Messenger
from service.meters import Meters
from service.packing import Packing
from service.provision import Provision
from service.pull import Puller
from service.reaper import Reaper
from service.reception import MB, open_mailbox, open_peers, open_pulls, open_signals
from service.retention import Retention
from service.serving import Loaded, Serving
from service.settings import Settings
from service.shares import Shares
from service.storage import ObjectStore
from service.storage.folder import FolderStore
from service.storage.scratch import Scratch
from service.store import Store, configuration
from service.store.embedded import EmbeddedDatabase
from service.store.keeping import Ages
from service.store.migrations import require
from service.store.objects import AtHand, LocalObjects, ResultFolder, ResultObjects, ResultStore, Unchecked
from service.study import State
from service.syslog import Receiver
from service.triage import Triage
from service.volumes import Volumes
from service.witness import Witness

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
    active = active_model(settings)
    return Intake(
        store=store,
        spool=spool,
        model_hash=active.identity().sha256,
        follow=lambda: active.identity().sha256,
        config_digest=config_digest(settings),
        quiet_s=lambda sender: peers.quiet_s(sender, default=settings.quiet_s),
        signals=open_signals(settings),
        inquiry=Inquiry(peers=peers, spool=spool, calling_aet=settings.aet),
        longest_wait_s=settings.longest_wait_s,
        is_packing=settings.store is not None,
    )


def open_object_store(settings: Settings) -> ObjectStore | None:
    """Return where packs and results are kept for all machines; None where workers read the data folder.

    Raises
    ------
    SettingsError
        If a bucket is named and what speaks to it is not installed, or a key file cannot be read.
    """
    if settings.store is None:
        return None
    scheme, _, rest = settings.store.partition("://")
    if scheme != "s3":
        return FolderStore(Path(rest or settings.store))
    try:
        from service.storage.bucket import BucketStore, Endpoint  # only where a bucket is
    except ImportError as error:
        raise SettingsError(
            "VIGIL_STORE: a bucket needs the extra s3. Install vigil-triage[s3] on this machine."
        ) from error
    bucket, _, prefix = rest.partition("/")
    return BucketStore(
        bucket,
        prefix.strip("/"),
        Endpoint(
            url=settings.store_endpoint,
            access_key=_secret(settings.store_access_key_file, "VIGIL_STORE_ACCESS_KEY_FILE"),
            secret_key=_secret(settings.store_secret_key_file, "VIGIL_STORE_SECRET_KEY_FILE"),
        ),
    )


def _secret(path: Path | None, setting: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: the file cannot be read ({type(error).__name__}).") from error


def open_scratch(settings: Settings) -> Scratch:
    """Return this process's scratch space; what dead processes left is gone."""
    scratch = Scratch(
        settings.scratch_folder,
        most_bytes=None if settings.scratch_mb is None else settings.scratch_mb * MB,
    )
    scratch.sweep()
    atexit.register(scratch.close)
    return scratch


def _results(settings: Settings, objects: ObjectStore | None, scratch: Scratch) -> ResultObjects:
    """Return where result objects are kept."""
    folder = ResultFolder(settings.results_folder)
    return folder if objects is None else ResultStore(objects, scratch, folder)


def open_pictures(settings: Settings) -> LocalObjects:
    """Return result objects for a screen."""
    objects = open_object_store(settings)
    if objects is None:
        return Unchecked(settings.results_folder)
    folder = ResultFolder(settings.results_folder)
    return AtHand(ResultStore(objects, open_scratch(settings), folder))


def open_volumes(settings: Settings) -> Volumes:
    """Return scored series as volumes, for a screen."""
    objects = open_object_store(settings)
    return Volumes(
        provision=Provision(
            spool_folder=settings.spool_folder,
            objects=objects,
            scratch=None if objects is None else open_scratch(settings),
        ),
        folder=settings.scratch_folder,
    )


def open_holdings(settings: Settings, pictures: LocalObjects) -> Holdings:
    """Return DICOM objects for whoever asks for single ones."""
    objects = open_object_store(settings)
    scratch = None if objects is None else open_scratch(settings)
    return Holdings(spool_folder=settings.spool_folder, results=pictures, objects=objects, scratch=scratch)


def open_packing(settings: Settings, store: Store, spool: Spool, stop: Event) -> Packing:
    """Return the loop from complete study to pack; `stop` ends an upload that runs."""
    active = active_model(settings)
    active.identity()  # read and verified here, not while a transaction waits for it
    return Packing(
        store=store,
        spool=spool,
        objects=open_object_store(settings),
        admission=Admission(
            model_hash=lambda: active.identity().sha256, config_digest=config_digest(settings)
        ),
        scratch=open_scratch(settings),
        stop=stop,
    )


def open_clearing(settings: Settings, store: Store, spool: Spool) -> Clearing:
    """Return what frees the node's disk of packed studies."""
    hours = settings.keep_received_hours
    return Clearing(
        store=store,
        spool=spool,
        objects=open_object_store(settings),
        after=None if hours is None else timedelta(hours=hours),
    )


def retention_ages(settings: Settings) -> Ages:
    """Return after how long a study of each state may go; states that are never deleted are left out."""
    days = {
        State.SCORED: settings.keep_scored_days,
        State.NOT_ASSESSABLE: settings.keep_not_assessable_days,
        State.FAILED: settings.keep_failed_days,
    }
    return {state: timedelta(days=age) for state, age in days.items() if age is not None}


def open_retention(settings: Settings, store: Store, spool: Spool) -> Retention:
    """Return what deletes by age; with no age set, nothing."""
    objects = open_object_store(settings)
    quarantine_days = settings.keep_quarantine_days
    return Retention(
        store=store,
        spool=spool,
        objects=objects,
        results=_results(settings, objects, open_scratch(settings)),
        ages=retention_ages(settings),
        quarantine_age=None if quarantine_days is None else timedelta(days=quarantine_days),
    )


def open_witness(settings: Settings, store: Store) -> Witness:
    """Record that the node runs; return what writes the audit trail's head down outside of the database."""
    with store.transaction() as session:
        configuration.started(session, "node", settings)
    return Witness(store=store, folder=settings.data)


def open_audit_export(settings: Settings, store: Store) -> AuditExport:
    """Return what tells the audit repository."""
    receiver = Receiver.open(
        settings.audit_syslog or "",
        authorities=settings.audit_syslog_authorities,
        certificate=settings.audit_syslog_certificate,
    )
    return AuditExport(store=store, receiver=receiver)


def open_puller(settings: Settings, spool: Spool, peers: Peers) -> Puller:
    """Return the loop that fetches what archives announce."""
    return Puller(
        pulls=open_pulls(settings),
        peers=peers,
        spool=spool,
        signals=open_signals(settings),
        aet=settings.aet,
        max_instance_bytes=settings.max_instance_mb * MB,
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
    objects, scratch = open_object_store(settings), open_scratch(settings)
    return Triage(
        store=store,
        provision=Provision(
            spool_folder=settings.spool_folder,
            objects=objects,
            scratch=scratch,
        ),
        objects=_results(settings, objects, scratch),
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
        objects=_results(settings, open_object_store(settings), open_scratch(settings)),
        destinations=Destinations(open_peers(settings), calling_aet=settings.aet),
        attempts=settings.deliver_attempts,
        mailbox=mailbox,
    )


def open_messenger(settings: Settings, store: Store) -> Messenger:
    """Return what tells other systems."""
    peers = open_peers(settings)
    return Messenger(
        store=store,
        senders=Senders(peers),
        channels=lambda: {channel.name: channel.told for channel in peers.channels},
        attempts=settings.deliver_attempts,
    )


def open_reaper(settings: Settings, store: Store, *, besides: Callable[[], None] = lambda: None) -> Reaper:
    """Return the loop that brings back the work of dead workers."""
    return Reaper(
        store=store,
        stalled_s=settings.stalled_s,
        longest_queue_s=settings.longest_queue_s,
        besides=besides,
    )


def log_folder(settings: Settings) -> Path:
    """Return the folder of the roles' log files where a supervisor keeps them."""
    return settings.data / "logs"

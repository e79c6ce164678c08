"""Settings to parts, with `reception` (what receives), `telling` (what tells) and `stored` (what keeps)."""

import threading
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from threading import Event

from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from dicom_node.delivery import Destinations
from dicom_node.peers import Peers
from dicom_node.spool import Spool
from models import runtime
from models.artefact import Artefact, PictureArtefact, load_artefact
from models.batcher import Batcher
from models.catalogue import active_artefact
from models.predictor import AnyPredictor, load_predictor
from models.scores import ModelIdentity
from service import __version__
from service.active import ActiveModel
from service.admission import Admission
from service.audit_export import AuditExport
from service.calibrations import Calibrations
from service.clearing import Clearing
from service.commissioning import Commissioning
from service.deliver import Delivery
from service.errors import DatabaseError, SettingsError
from service.inquiry import Inquiry
from service.intake import Intake
from service.meters import DeliveryMeters, Meters, NodeMeters
from service.packing import Packing
from service.provision import Provision
from service.pull import Puller
from service.reaper import Reaper
from service.reception import MB, open_mailbox, open_peers, open_pulls, open_signals
from service.replay import rescore
from service.reproduction import Reproduction
from service.retention import Retention
from service.serving import Loaded, Serving
from service.settings import Settings
from service.shares import Shares
from service.store import Store, configuration
from service.store.embedded import EmbeddedDatabase
from service.store.keeping import Ages
from service.store.migrations import require
from service.stored import open_object_store, open_results, open_scratch
from service.study import State
from service.syslog import Receiver
from service.traces import open_traces
from service.triage import Triage
from service.watching import ACTOR as WATCHER
from service.watching import Watching
from service.witness import Witness

# Libraries whose version can change the bytes of a result (standards: same UID, same bytes).
SHAPING = ("highdicom", "numpy", "pillow", "pydicom", "scipy")


def database_url(settings: Settings) -> str:
    """URL of the site's database, or of the embedded one.

    Raises
    ------
    SettingsError
        If it stands in a file that cannot be read.
    """
    return settings.site_database_url() or EmbeddedDatabase(settings.data).url


def open_store(settings: Settings) -> Store:
    """Store on a database that answers and that this release may work on.

    Raises
    ------
    DatabaseError, SchemaError
        Else; the message says what to do.
    """
    store = open_any_store(settings)
    try:
        require(store)
    except BaseException:
        store.close()  # nobody else has it
        raise
    return store


def open_any_store(settings: Settings) -> Store:
    """Store on a database that answers, whatever its schema.

    Raises
    ------
    DatabaseError
        If it does not; the message says what to do.
    """
    store = waiting_store(settings)
    try:
        store.check()
    except DatabaseError as error:
        if settings.has_embedded_database:
            raise DatabaseError(
                "No Vigil runs on this data folder: its embedded database is down. Start it with `vigil up`, "
                "or set VIGIL_DATA to the folder of the one that runs."
            ) from error
        raise
    return store


def waiting_store(settings: Settings) -> Store:
    """Store for a role that goes on while its database is away; it connects on first use.

    Raises
    ------
    SettingsError
        If the database's address is none.
    """
    try:
        return Store.open(database_url(settings))
    except (ArgumentError, ValueError):  # their words hold the address, and that a password
        raise SettingsError(
            "VIGIL_DATABASE_URL: is no address of a PostgreSQL. Write postgresql://user@host/name."
        ) from None


def active_model(settings: Settings) -> ActiveModel:
    """Return which model is to serve, to be asked again and again."""
    return ActiveModel(data=settings.data, chosen=settings.model)


def open_artefact(settings: Settings) -> Artefact | PictureArtefact:
    """Return the model to score with, every file verified."""
    return active_model(settings).artefact()


def model_identity(settings: Settings) -> ModelIdentity:
    """Return which model serves, without loading its network."""
    return active_model(settings).identity()


def software() -> dict[str, str]:
    """Versions of what shapes a result, our own too."""
    # ONNX Runtime is asked itself: its package has another name where it is made for a GPU.
    libraries = {name: version(name) for name in SHAPING}
    return {"vigil": __version__, "onnxruntime": runtime.VERSION, **libraries}


def open_calibrations(settings: Settings) -> Calibrations:
    """Return which calibration is in force, with everything else that shapes a result besides the model."""
    return Calibrations(
        site=settings.site,
        configuration={
            "max_voxels": settings.max_voxels,
            "results": sorted(settings.result_kinds),
            **software(),
        },
    )


def open_intake(settings: Settings, store: Store, spool: Spool, peers: Peers, meters: NodeMeters) -> Intake:
    """Return the loop from spool to job."""
    active = active_model(settings)
    return Intake(
        store=store,
        spool=spool,
        model_hash=active.identity().sha256,
        follow=lambda: active.identity().sha256,
        config_digest=open_calibrations(settings).config_digest,
        quiet_s=lambda sender: peers.quiet_s(sender, default=settings.quiet_s),
        signals=open_signals(settings),
        inquiry=Inquiry(peers=peers, spool=spool, calling_aet=settings.aet),
        longest_wait_s=settings.longest_wait_s,
        is_packing=settings.store is not None,
        meters=meters,
        traces=open_traces(settings.traces, "node"),
    )


def open_packing(settings: Settings, store: Store, spool: Spool, stop: Event) -> Packing:
    """Return the loop from complete study to pack; `stop` ends an upload that runs."""
    active = active_model(settings)
    active.identity()  # read and verified here, not while a transaction waits for it
    return Packing(
        store=store,
        spool=spool,
        objects=open_object_store(settings),
        admission=Admission(
            model_hash=lambda: active.identity().sha256,
            config_digest=open_calibrations(settings).config_digest,
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
        results=open_results(settings, objects, open_scratch(settings)),
        ages=retention_ages(settings),
        quarantine_age=None if quarantine_days is None else timedelta(days=quarantine_days),
    )


def open_watching(settings: Settings, store: Store) -> Watching:
    """Return the loop that watches scanners for drift."""
    active = active_model(settings)
    admission = Admission(
        model_hash=lambda: active.identity().sha256, config_digest=open_calibrations(settings).config_digest
    )

    def judge_again(session: Session, key: str) -> None:
        rescore(session, key, actor=WATCHER, admission=admission)

    return Watching(store=store, judge_again=judge_again)


def open_witness(settings: Settings, store: Store) -> Witness:
    """Record that the node runs; return what writes the audit trail's head down outside of the database."""
    with store.transaction() as session:
        configuration.started(session, "node", settings)
    return Witness(store=store, folder=settings.data)


def open_commissioning(settings: Settings, store: Store) -> Commissioning:
    """Return what proposes calibrations for scanners that have none."""
    active = active_model(settings)
    return Commissioning(
        store=store,
        model_hash=lambda: active.identity().sha256,
        studies=settings.commission_studies,
    )


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


def open_meters(settings: Settings) -> Meters:
    """Return what an inference worker counts, told where the settings say."""
    meters = Meters()
    meters.serve(settings, settings.worker_metrics_port)
    return meters


def open_serving(settings: Settings, meters: Meters) -> Serving:
    """Return the model in service, loaded and warm, with the thread that fills its batches."""
    device = threading.Lock()  # one batch at a time, also while one model takes the place of another

    def load(artefact: Artefact | PictureArtefact) -> Loaded:
        predictor = _load(settings, artefact)
        batcher = Batcher(
            predictor.runner,
            predictor.examples(),
            wait_s=settings.batch_wait_ms / 1000,
            turn=device,
            observer=meters,
        )
        return Loaded(predictor, batcher)

    return Serving(active_model(settings), load, told=meters.changed)


def _load(settings: Settings, artefact: Artefact | PictureArtefact) -> AnyPredictor:
    """Return a model as this site runs it."""
    return load_predictor(
        artefact, threads=settings.threads, engines=settings.engines_folder, server=settings.triton
    )


def open_reproduction(settings: Settings, store: Store, folder: Path | None = None) -> Reproduction:
    """Return what makes a score again.

    Parameters
    ----------
    settings : Settings
    store : Store
    folder : Path, optional
        Of a model that is no longer in service.
    """
    active = active_model(settings)

    def find(sha256: str) -> Artefact | PictureArtefact | None:
        if folder is not None and (given := load_artefact(folder)).sha256 == sha256:
            return given
        before = next((one.path for one in active.remembered() if one.sha256 == sha256), None)
        known = [active.artefact(), active_artefact(), *([] if before is None else [load_artefact(before)])]
        return next((one for one in known if one.sha256 == sha256), None)

    return Reproduction(
        store=store,
        provision=Provision(
            spool_folder=settings.spool_folder,
            objects=open_object_store(settings),
            scratch=open_scratch(settings),
        ),
        artefacts=find,
        load=lambda artefact: _load(settings, artefact),
        site=settings.site,
        max_voxels=settings.max_voxels,
        software=software(),
    )


def open_triage(settings: Settings, store: Store, serving: Serving, meters: Meters) -> Triage:
    """Return what the inference worker does."""
    objects, scratch = open_object_store(settings), open_scratch(settings)
    return Triage(
        store=store,
        provision=Provision(
            spool_folder=settings.spool_folder,
            objects=objects,
            scratch=scratch,
        ),
        objects=open_results(settings, objects, scratch),
        models=serving,
        in_force=open_calibrations(settings).in_force,
        destinations=open_peers(settings).destinations_of,
        max_voxels=settings.max_voxels,
        kinds=settings.result_kinds,
        attempts=settings.infer_attempts,
        places=Shares(settings.infer_jobs),
        memory=Shares(settings.memory_mb * MB),
        scratch_folder=settings.scratch_folder,
        software=software(),
        meters=meters,
        traces=open_traces(settings.traces, "infer"),
    )


def open_delivery(settings: Settings, store: Store) -> Delivery:
    """Return what the delivery worker does."""
    mailbox = open_mailbox(settings)
    mailbox.sweep()
    meters = DeliveryMeters()
    meters.serve(settings, settings.deliver_metrics_port)
    return Delivery(
        store=store,
        objects=open_results(settings, open_object_store(settings), open_scratch(settings)),
        destinations=Destinations(open_peers(settings), calling_aet=settings.aet),
        attempts=settings.deliver_attempts,
        mailbox=mailbox,
        meters=meters,
        traces=open_traces(settings.traces, "deliver"),
    )


def open_reaper(settings: Settings, store: Store, *, besides: Callable[[], None] = lambda: None) -> Reaper:
    """Return the loop that brings back the work of dead workers."""
    return Reaper(
        store=store,
        stalled_s=settings.stalled_s,
        longest_queue_s=settings.longest_queue_s,
        besides=besides,
    )

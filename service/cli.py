"""The command line. Every command is thin: it builds settings, calls one part and prints."""

import gc

gc.disable()  # What is loaded here stays; looked through meanwhile, it costs a third more time.

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from sqlalchemy.exc import OperationalError

from dicom_node.errors import DicomNodeError
from models.errors import ModelError
from service import __version__, changing_cli, orders_cli
from service.audit_cli import audit_app
from service.backup_cli import backup, restore
from service.calibration_cli import calibrate_model, show_coverage
from service.calibrations_cli import calibrations_app
from service.capacity_cli import capacity
from service.db_cli import db_app
from service.doctor_cli import doctor
from service.drift_cli import drift_app
from service.errors import TriageError
from service.feedback_cli import feedback_app
from service.messages_cli import messages_app
from service.models_cli import models_app
from service.peers_cli import peers_app
from service.people_cli import people_app, tokens_app
from service.retention_cli import retention_app
from service.screening_cli import cohorts_app, screen
from service.send_cli import send
from service.settings import Settings
from service.simulation.command import simulate
from service.studies_cli import studies_app
from service.study import Pool
from service.supervisor import Stop
from service.terminal import EXIT_FAILED, AsJson, Data, begin, out, say

gc.freeze()
gc.enable()

STREAMS_END_S = 3  # pages that watch the list are let go of after so long
WORDS_BYTES = 4096  # of what somebody says on a WebSocket, which means nothing to us
EXIT_REMEDY = 2  # something outside must change first; the message says what

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a pretty traceback prints local variables, which may hold identity
)
app.add_typer(studies_app, name="studies")
app.add_typer(audit_app, name="audit")
app.add_typer(calibrations_app, name="calibrations")
app.add_typer(db_app, name="db")
app.add_typer(drift_app, name="drift")
app.add_typer(feedback_app, name="feedback")
app.add_typer(messages_app, name="messages")
app.add_typer(models_app, name="models")
app.add_typer(peers_app, name="peers")
app.add_typer(retention_app, name="retention")
app.add_typer(people_app, name="people")
app.add_typer(tokens_app, name="tokens")
app.command()(doctor)
app.command()(backup)
app.command()(restore)
app.command()(send)
app.add_typer(cohorts_app, name="cohorts")
app.command("simulate")(simulate)
app.command("screen")(screen)
models_app.command("calibrate")(calibrate_model)
models_app.command("coverage")(show_coverage)
models_app.command("activate")(changing_cli.activate_model)
models_app.command("shadow")(changing_cli.shadow_model)
models_app.command("compare")(changing_cli.compare_models)
models_app.command("promote")(changing_cli.promote_model)
models_app.command("rollback")(changing_cli.roll_back_model)
app.command()(capacity)
peers_app.command("park")(orders_cli.park_peer)
peers_app.command("unpark")(orders_cli.unpark_peer)

Aet = Annotated[str | None, typer.Option(help="AE title of the node.")]
Port = Annotated[int | None, typer.Option(help="Port of the node.")]
ApiPort = Annotated[int | None, typer.Option(help="Port of the API and pages.")]
PeersFile = Annotated[Path | None, typer.Option(help="YAML file of DICOM peers.")]


def main() -> None:
    """Entry point: errors with a remedy are one line on standard error, not a traceback."""
    try:
        app()
    except (TriageError, DicomNodeError, ModelError) as error:
        print(f"vigil: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        sys.exit(EXIT_REMEDY)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        out(f"vigil {__version__}")
        raise typer.Exit


@app.callback()
def everything(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the release.")
    ] = False,
) -> None:
    """Vigil: every study ranked by how unusual it is. Not a diagnosis."""


@app.command()
def up(
    data: Data = None, aet: Aet = None, port: Port = None, api_port: ApiPort = None, peers: PeersFile = None
) -> None:
    """Serve: all roles of this machine under one supervisor."""
    from service.roles import choose_ports, machine_roles
    from service.supervisor import Supervisor

    settings = choose_ports(begin(data=data, aet=aet, port=port, api_port=api_port, peers=peers))
    supervisor = Supervisor(machine_roles(settings, own_logs=False))
    with _stop_signals() as stop:
        supervisor.start()
        try:
            say(
                f"vigil ready: {settings.aet} on {settings.host}:{settings.port}, "
                f"worklist at http://{settings.api_host}:{settings.api_port}/"
            )
            _welcome_first_person(settings)
            supervisor.watch(stop)
        finally:
            supervisor.stop(stop.hurry)


@app.command()
def demo(
    data: Data = None,
    once: Annotated[bool, typer.Option(help="Stop everything afterwards; fail if any study did.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start everything, send the demonstration studies and print the ranked list."""
    from service.demonstration.run import run_demonstration

    with _stop_signals() as stop:
        sys.exit(0 if run_demonstration(data, once=once, as_json=as_json, stop=stop) else EXIT_FAILED)


@app.command()
def node(
    standalone: Annotated[bool, typer.Option(help="The receiver with its spool alone: no database.")] = False,
    data: Data = None,
    aet: Aet = None,
    port: Port = None,
    peers: PeersFile = None,
) -> None:
    """Receive studies: one role, for many machines."""
    from service.meters import NodeMeters
    from service.reception import open_peers, open_spool, reception

    settings = begin(data=data, aet=aet, port=port, peers=peers)
    meters = NodeMeters(settings)
    known = open_peers(settings)
    spool = open_spool(settings)
    counts = meters.tallies
    with _stop_signals() as stop, reception(settings, spool, known, counts, on_loss=stop.set) as acceptors:
        meters.serve(settings, settings.node_metrics_port)
        say(f"vigil node ready: {settings.aet} on {settings.host}:{acceptors.port}")
        if standalone:
            stop.wait()
        else:
            from service import telling, wiring
            from service.audit_export import AuditExport
            from service.node import Alive, run_loops
            from service.pull import pulling
            from service.store.migrations import require

            store = wiring.waiting_store(settings)

            def tell() -> AuditExport:
                return wiring.open_audit_export(settings, store)

            with (
                pulling(wiring.open_puller(settings, spool, known)),
                telling.taking_orders(settings, store, spool, known),
            ):
                run_loops(
                    {
                        "alive": lambda: Alive(store),
                        "intake": lambda: wiring.open_intake(settings, store, spool, known, meters),
                        "packing": lambda: wiring.open_packing(settings, store, spool, stop),
                        "clearing": lambda: wiring.open_clearing(settings, store, spool),
                        "retention": lambda: wiring.open_retention(settings, store, spool),
                        "watching": lambda: wiring.open_watching(settings, store),
                        "witness": lambda: wiring.open_witness(settings, store),
                        "commissioning": lambda: wiring.open_commissioning(settings, store),
                        **({"audit export": tell} if settings.audit_syslog is not None else {}),
                    },
                    stop,
                    check=lambda: require(store),
                )
    if not acceptors.is_stopped_by_us:
        sys.exit(EXIT_FAILED)


@app.command()
def worker(pool: Annotated[Pool, typer.Option(help="Which queue to work on.")]) -> None:
    """Score, deliver results and messages or messages alone, or watch: one role, for many machines."""
    from service import telling, wiring
    from service.deliver import Delivery
    from service.messenger import Messenger
    from service.store.configuration import on_record
    from service.worker import Ended, run_worker

    _ignore_hangup()
    settings = begin()
    store = wiring.open_store(settings)
    url = wiring.database_url(settings)
    exits = {Ended.TOLD: 0, Ended.LOST: EXIT_FAILED, Ended.REFUSED: EXIT_REMEDY}
    if pool is Pool.SHADOW:
        from service.shadow_worker import work_in_the_shadow

        with on_record(store, pool.value, settings):
            ended = work_in_the_shadow(settings, store)
        sys.exit(exits[ended])
    if pool is not Pool.INFER:
        messenger = telling.open_messenger(settings, store)
        messenger.follow()
        work: dict[Pool, Delivery | Messenger] = {Pool.MESSAGE: messenger}
        if pool is Pool.DELIVER:
            work = {Pool.DELIVER: wiring.open_delivery(settings, store), **work}
        with on_record(store, pool.value, settings):
            ended = run_worker(
                work,
                slots=sum(part.slots for part in work.values()),
                database_url=url,
                reaper=wiring.open_reaper(settings, store, besides=messenger.follow),
            )
        sys.exit(exits[ended])
    meters = wiring.open_meters(settings)
    serving = wiring.open_serving(settings, meters)
    stop = threading.Event()
    watcher = threading.Thread(target=serving.watch, args=(stop,), name="model watch", daemon=True)
    watcher.start()
    try:
        triage = wiring.open_triage(settings, store, serving, meters)
        with on_record(store, pool.value, settings):
            ended = run_worker(
                {pool: triage},
                slots=settings.infer_jobs,
                database_url=url,
                reaper=wiring.open_reaper(settings, store),
                on_abandon=triage.abandon,
            )
    finally:
        stop.set()
        watcher.join()
        serving.close()
    sys.exit(exits[ended])


@app.command()
def api(api_port: ApiPort = None) -> None:
    """Serve the API and pages: one role, for many machines."""
    import uvicorn

    from service import reception, stored, wiring
    from service.api import create_app
    from service.store.configuration import on_record
    from service.store.migrations import require

    settings = begin(api_port=api_port)
    store = wiring.waiting_store(settings)
    with suppress(OperationalError):  # a database that is away is waited for; the readiness says so
        require(store)
    active = wiring.active_model(settings)
    pictures = stored.open_pictures(settings)
    peers = reception.open_peers(settings)
    app = create_app(
        store=store,
        settings=settings,
        model=active.identity(),
        follow=active.identity,
        calibrations=wiring.open_calibrations(settings),
        destinations=lambda: [peer.name for peer in peers.destinations],
        reference=active.reference,
        pictures=pictures,
        holdings=stored.open_holdings(settings, pictures),
        volumes=stored.open_volumes(settings),
    )
    # What is loaded now stays. Looked through again and again for garbage, a million objects stop every
    # request for a quarter of a second (`tests.benchmarks.worklist`: p99 of the first page 252 ms, now 99).
    gc.collect()
    gc.freeze()
    # uvicorn raises the signal that stopped it again: without a handler of ours the process dies of it.
    with _stop_signals(), on_record(store, "api", settings):
        uvicorn.run(
            app,
            host=settings.api_host,
            port=settings.api_port,
            access_log=False,
            timeout_graceful_shutdown=STREAMS_END_S,
            log_config=None,  # uvicorn's lines go through our own logging
            proxy_headers=bool(settings.proxies),
            forwarded_allow_ips=settings.proxies,
            server_header=False,
            ws_max_size=WORDS_BYTES,
            ws_max_queue=1,
        )


def _welcome_first_person(settings: Settings) -> None:
    """Print the one-time link of the first administrator, until somebody has used one."""
    from service import wiring
    from service.access import Role
    from service.site_address import page_address, takes_passwords
    from service.store import people

    if settings.access == "open" or not takes_passwords(settings):
        return
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        if people.is_empty(session):
            secret = people.invite(session, Role.ADMIN, actor="first start")
            say(
                "nobody can sign in yet; the first administrator: "
                f"{page_address(settings)}{people.welcome_path(secret)}"
            )


@contextmanager
def _stop_signals() -> Iterator[Stop]:
    """Event that SIGTERM and SIGINT set; a second one asks for haste."""
    stop = Stop()

    def request(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            stop.hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request)
    _ignore_hangup()
    yield stop


def _ignore_hangup() -> None:
    """Outlive the terminal; there is nothing to reload: what may change while a role runs is followed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    main()

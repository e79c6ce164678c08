"""The command line. Every command is thin: it builds settings, calls one part and prints."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from sqlalchemy.exc import OperationalError

from dicom_node.errors import DicomNodeError
from models.errors import ModelError
from service import changing_cli, orders_cli
from service.audit_cli import audit_app
from service.calibration_cli import calibrate_model, show_coverage
from service.calibrations_cli import calibrations_app
from service.db_cli import db_app
from service.errors import TriageError
from service.feedback_cli import feedback_app
from service.messages_cli import messages_app
from service.models_cli import models_app
from service.peers_cli import peers_app
from service.people_cli import people_app, tokens_app
from service.retention_cli import retention_app
from service.settings import Settings
from service.simulation.command import simulate
from service.studies_cli import studies_app
from service.study import Pool
from service.supervisor import Stop
from service.terminal import AsJson, Data, begin, out, out_json, say

EXIT_FAILED = 1
STREAMS_END_S = 3  # pages that watch the list are let go of after so long
WORDS_BYTES = 4096  # of what somebody says on a WebSocket, which means nothing to us
EXIT_REMEDY = 2  # something outside must change first; the message says what

app = typer.Typer(
    help="Vigil: every study ranked by how unusual it is. Not a diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a pretty traceback prints local variables, which may hold identity
)
app.add_typer(studies_app, name="studies")
app.add_typer(audit_app, name="audit")
app.add_typer(calibrations_app, name="calibrations")
app.add_typer(db_app, name="db")
app.add_typer(feedback_app, name="feedback")
app.add_typer(messages_app, name="messages")
app.add_typer(models_app, name="models")
app.add_typer(peers_app, name="peers")
app.add_typer(retention_app, name="retention")
app.add_typer(people_app, name="people")
app.add_typer(tokens_app, name="tokens")
app.command("simulate")(simulate)
models_app.command("calibrate")(calibrate_model)
models_app.command("coverage")(show_coverage)
models_app.command("activate")(changing_cli.activate_model)
models_app.command("shadow")(changing_cli.shadow_model)
models_app.command("compare")(changing_cli.compare_models)
models_app.command("promote")(changing_cli.promote_model)
models_app.command("rollback")(changing_cli.roll_back_model)
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
    from service.reception import open_peers, open_spool, reception

    settings = begin(data=data, aet=aet, port=port, peers=peers)
    known = open_peers(settings)
    spool = open_spool(settings)
    with _stop_signals() as stop, reception(settings, spool, known, on_loss=stop.set) as acceptors:
        say(f"vigil node ready: {settings.aet} on {settings.host}:{acceptors.port}")
        if standalone:
            stop.wait()
        else:
            from service import telling, wiring
            from service.audit_export import AuditExport
            from service.node import run_loops
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
                        "intake": lambda: wiring.open_intake(settings, store, spool, known),
                        "packing": lambda: wiring.open_packing(settings, store, spool, stop),
                        "clearing": lambda: wiring.open_clearing(settings, store, spool),
                        "retention": lambda: wiring.open_retention(settings, store, spool),
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
    from service.meters import Meters
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
    meters = Meters()
    if settings.worker_metrics_port is not None:
        meters.serve(settings.api_host, settings.worker_metrics_port)
    serving = wiring.open_serving(settings, meters)
    stop = threading.Event()
    watcher = threading.Thread(target=serving.watch, args=(stop,), name="model watch", daemon=True)
    watcher.start()
    try:
        triage = wiring.open_triage(settings, store, serving)
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

    _ignore_hangup()
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
    with on_record(store, "api", settings):
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


@app.command()
def send(
    host: str,
    port: int,
    paths: list[Path],
    aec: Annotated[str, typer.Option(help="Called AE title.")],
    aet: Annotated[str, typer.Option(help="Calling AE title.")] = "VIGIL-SEND",
    as_json: AsJson = False,
) -> None:
    """Send DICOM files by C-STORE; one row per instance with its status."""
    from dicom_node.scu import send_files

    files = sorted(
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()
    )
    rows: list[dict[str, Any]] = []
    for number, receipt in enumerate(
        send_files(files, host=host, port=port, calling_aet=aet, called_aet=aec)
    ):
        status = None if receipt.status is None else f"0x{receipt.status:04X}"
        rows.append({"file": receipt.path.name, "status": status, "stored": receipt.is_stored})
        if not as_json:
            out(f"{number + 1:5d}  {status or 'no answer':9s}  {receipt.path.name}")
    if as_json:
        out_json({"instances": rows})
    sys.exit(0 if rows and all(row["stored"] for row in rows) else EXIT_FAILED)


def _welcome_first_person(settings: Settings) -> None:
    """Print the one-time link of the first administrator, until somebody has used one."""
    from service import wiring
    from service.access import Role
    from service.store import people

    if settings.access == "open":
        return
    store = wiring.open_store(settings)
    with store.transaction() as session:
        if people.is_empty(session):
            secret = people.invite(session, Role.ADMIN, actor="first start")
            say(
                "nobody can sign in yet; the first administrator: "
                f"http://{settings.api_host}:{settings.api_port}{people.welcome_path(secret)}"
            )
    store.close()


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
    """Outlive the terminal; there is nothing to reload: the peers file is followed as it changes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    main()

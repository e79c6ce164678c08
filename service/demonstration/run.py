"""The demonstration: everything on this machine, real associations, a ranked list at the end."""

import json
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import inspect

from dicom_node.identity import load_or_make_secret, study_key
from dicom_node.scu import send_files
from service.demonstration.studies import DemonstrationStudy, write_studies
from service.engine import DATABASE_AWAY
from service.errors import RoleFailedError, SettingsError
from service.places import make_data_folder
from service.roles import free_port, machine_roles, role_command
from service.settings import Settings, load_settings
from service.store import Store
from service.store.rows import WorklistRow
from service.store.tables import SCHEMA
from service.store.worklist import worklist
from service.study import ARRIVED, ENDED, DeliveryStatus, State
from service.supervisor import Role, Supervisor
from service.telemetry import configure_logging
from service.wiring import database_url

QUIET_S = 3.0  # a demonstration does not wait a minute for a scanner that might send more
STALLED_S = 9.0  # nor half a minute for a worker somebody kills to see what happens
LOG_MB = 64  # the demonstration is no burst
TIMEOUT_S = 600.0
WATCH_S = 0.5
PRINTED_WIDTH = 140  # columns, where no terminal says how many it has
LOOPBACK = "127.0.0.1"
WRITTEN_HERE = "# Written by the demonstration."
ARCHIVE = "demo-pacs"
ARCHIVE_AET = "DEMOPACS"
SENDER_AET = "DEMOSCANNER"
# The node's port, which would be taken, and the node's peers: from this machine anybody may send to it.
NOT_OF_THE_PACS = frozenset({"VIGIL_NODE_METRICS_PORT", "VIGIL_PEERS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One demonstration study with the row it ended as."""

    key: str
    study: DemonstrationStudy
    row: WorklistRow | None

    @property
    def is_as_expected(self) -> bool:
        """Scored, or not assessable with a code where that is expected; every result delivered."""
        if self.row is None or not self.row.results:
            return False
        if any(result.status not in ARRIVED for result in self.row.results):
            return False
        if self.study.label == "not_assessable":
            return self.row.state == State.NOT_ASSESSABLE and self.row.rank is None and bool(self.row.reason)
        return self.row.state == State.SCORED and self.row.rank is not None


def run_demonstration(data: Path | None, *, once: bool, as_json: bool, stop: threading.Event) -> bool:
    """Start everything, send the demonstration studies, print the list.

    Parameters
    ----------
    data : Path, optional
        Folder to keep everything in; unset, a new one in ``vigil-data``.
    once : bool
        Stop everything afterwards; otherwise serve until `stop` is set.
    as_json : bool
        Print one JSON document on standard output instead of the table.
    stop : threading.Event

    Returns
    -------
    bool
        Whether every study ended as expected.
    """
    begun = time.monotonic()
    console = Console(stderr=as_json)
    settings = _settings(data)
    configure_logging("WARNING")
    supervisor = Supervisor(_roles(settings))
    page = f"http://{settings.api_host}:{settings.api_port}/"
    with console.status("Starting database, node, workers, API and the demonstration PACS …"):
        supervisor.start()
    store = Store.open(database_url(settings))
    watcher = threading.Thread(target=_look_after, args=(supervisor, stop), name="supervisor")
    watcher.start()
    try:
        studies = write_studies(settings.data / "demonstration")
        listed = _send_and_wait(settings, store, studies, console, stop)
        seconds = round(time.monotonic() - begun, 1)
        is_good = all(item.is_as_expected for item in listed)
        if as_json:
            print(json.dumps(_document(listed, page, seconds), indent=1))  # noqa: T201 - what --json promises
            sys.stdout.flush()
        else:
            _print(console, listed, page, seconds)
        if not once:
            console.print("Serving until Ctrl-C.")
            stop.wait()
        return is_good
    finally:
        store.close()
        stop.set()
        watcher.join()


def _look_after(supervisor: Supervisor, stop: threading.Event) -> None:
    """Watch the roles, and stop them from the same thread: what it restarted ends when it ends."""
    supervisor.watch(stop)
    supervisor.stop()


def _settings(data: Path | None) -> Settings:
    """Settings on free ports and, where none is given, on a data folder of its own."""
    if data is None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        kept = Path("vigil-data")  # where `vigil up` may keep what is real: as private as it makes it
        make_data_folder(kept)
        data = kept / f"demo-{stamp}-{secrets.token_hex(2)}"
    data = data.absolute()
    return load_settings(
        data=data,
        key_file=data / "site.key",
        peers=data / "peers.yaml",
        host=LOOPBACK,
        port=free_port(LOOPBACK),
        api_host=LOOPBACK,
        api_port=free_port(LOOPBACK),
        access="open",  # open data, on this machine alone
        quiet_s=QUIET_S,
        stalled_s=STALLED_S,
        log_mb=LOG_MB,
    )


def _refuse_a_sites_own(settings: Settings) -> None:
    """Raise SettingsError rather than mix the demonstration with what a site keeps."""
    peers = settings.peers_path
    if peers.exists() and not peers.read_text().startswith(WRITTEN_HERE):
        raise SettingsError(
            "VIGIL_DATA: this folder has a peers file of its own. Give the demonstration another."
        )
    given = settings.site_database_url()
    if given is None:
        return
    store = Store.open(given)
    try:
        store.check()
        if inspect(store.engine).has_table("study", schema=SCHEMA):
            with store.transaction() as session:
                if worklist(session, limit=1).total:
                    raise SettingsError(
                        "VIGIL_DATABASE_URL: this database holds studies. Unset it for the demonstration."
                    )
    finally:
        store.close()


def _roles(settings: Settings) -> list[Role]:
    """Return the roles of one machine, and a PACS: a second node that only keeps what it gets."""
    port = free_port(LOOPBACK)
    archive = settings.data / "pacs"
    _refuse_a_sites_own(settings)
    make_data_folder(settings.data)
    settings.peers_path.write_text(
        f"{WRITTEN_HERE}\n"
        "peers:\n"
        f"  - {{name: scanner, aet: {SENDER_AET}, host: 127.0.0.1, roles: [sender], quiet_s: {QUIET_S}}}\n"
        f"  - {{name: {ARCHIVE}, aet: {ARCHIVE_AET}, host: 127.0.0.1, port: {port}, roles: [destination]}}\n"
    )
    pacs = Role(
        name=ARCHIVE,
        command=role_command(
            "node", "--standalone", "--port", str(port), "--aet", ARCHIVE_AET, "--data", str(archive),
        ),
        environment={
            name: value for name, value in settings.environment().items() if name not in NOT_OF_THE_PACS
        },
        log_file=settings.logs_folder / f"{ARCHIVE}.log",
    )  # fmt: skip
    return [pacs, *machine_roles(settings, own_logs=True)]


def _send_and_wait(
    settings: Settings,
    store: Store,
    studies: tuple[DemonstrationStudy, ...],
    console: Console,
    stop: threading.Event,
) -> list[Listed]:
    secret = load_or_make_secret(settings.key_path)
    keys = {study_key(secret, study.study_uid): study for study in studies}
    with Progress(
        TextColumn("{task.description:28s}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        sending = progress.add_task("sent over DICOM, images", total=sum(len(s.paths) for s in studies))
        scored = progress.add_task("scored, studies", total=len(studies))
        arrived = progress.add_task("results in the PACS, studies", total=len(studies))
        for study in studies:
            _send(settings, study, progress, sending)
            _show(store, keys, progress, scored, arrived)
        deadline = time.monotonic() + TIMEOUT_S
        while not stop.wait(WATCH_S):
            listed, is_over = _show(store, keys, progress, scored, arrived)
            if is_over or time.monotonic() > deadline:
                return listed
    raise RoleFailedError("The demonstration was stopped before its end.")


def _send(settings: Settings, study: DemonstrationStudy, progress: Progress, task: TaskID) -> None:
    """Send one study as a scanner would, again where the node was away in between."""
    waiting = list(study.paths)
    deadline = time.monotonic() + TIMEOUT_S
    while waiting and time.monotonic() < deadline:
        for receipt in send_files(
            waiting, host=settings.host, port=settings.port, calling_aet=SENDER_AET, called_aet=settings.aet
        ):
            if receipt.is_stored:
                waiting.remove(receipt.path)
                progress.advance(task)
        if waiting:
            time.sleep(WATCH_S)
    if waiting:
        raise RoleFailedError(
            "The node did not take the demonstration studies. See logs/node.log in the data folder."
        )


def _show(
    store: Store, keys: dict[str, DemonstrationStudy], progress: Progress, scored: TaskID, arrived: TaskID
) -> tuple[list[Listed], bool]:
    """Return the list as it stands, and whether every study has come to its end."""
    try:
        with store.transaction() as session:
            rows = {row.key: row for row in worklist(session).rows}
    except DATABASE_AWAY:  # the supervisor is bringing it back; the next look shows more
        rows = {}
    listed = [Listed(key=key, study=study, row=rows.get(key)) for key, study in keys.items()]
    ended = [item for item in listed if item.row is not None and item.row.state in ENDED]
    settled = [item for item in ended if item.row is not None and _is_settled(item.row)]
    progress.update(scored, completed=len(ended))
    progress.update(arrived, completed=len(settled))
    position = {key: number for number, key in enumerate(rows)}
    listed.sort(key=lambda item: position.get(item.key, len(position)))
    return listed, len(settled) == len(listed)


def _is_settled(row: WorklistRow) -> bool:
    """Whether no result of the study is still on its way."""
    return all(result.status != DeliveryStatus.WAITING for result in row.results)


def _document(listed: list[Listed], page: str, seconds: float) -> dict[str, Any]:
    """Return what ``--json`` prints (design §5)."""
    return {
        "studies": [
            {
                "key": item.key,
                "label": item.study.label,
                "state": None if item.row is None else str(item.row.state),
                "rank": None if item.row is None else item.row.rank,
                "percentile": None if item.row is None else item.row.percentile,
                "reason": None if item.row is None else item.row.reason,
                "results": [
                    {"kind": result.kind, "destination": result.destination, "status": str(result.status)}
                    for result in ([] if item.row is None else item.row.results)
                ],
            }
            for item in listed
        ],
        "page": page,
        "seconds": seconds,
    }


def _print(console: Console, listed: list[Listed], page: str, seconds: float) -> None:
    if not console.is_terminal:
        console.width = max(console.width, PRINTED_WIDTH)
    table = Table(title="Worklist: most unusual first", caption="Demonstration model. Not a diagnosis.")
    table.add_column("rank", justify="right")
    for column in ("percentile or reason", "state", "label", "study", "model", "delivered"):
        table.add_column(column)
    for item in listed:
        row = item.row
        if row is None:
            table.add_row("", "did not arrive", "", item.study.label, item.study.title, "", "")
            continue
        there = [result for result in row.results if result.status in ARRIVED]
        where = ", ".join(sorted({result.destination for result in there if result.destination}))
        table.add_row(
            "" if row.rank is None else str(row.rank),
            _percentile_or_reason(row),
            row.state.value,
            item.study.label,
            item.study.title,
            f"{row.model.name} {row.model.version}" if row.model else "",
            f"{' '.join(result.kind for result in there)} → {where}" if there else "nothing",
        )
    console.print(table)
    console.print(f"{len(listed)} studies in {seconds} s.  Worklist page: {page}")
    for item in listed:
        if not item.is_as_expected:
            console.print(f"not as expected: {item.study.title} ({item.key})", style="bold")


def _percentile_or_reason(row: WorklistRow) -> str:
    if row.assessment is None:
        return row.reason or ""
    return f"{row.assessment.percentile:.1f} (n = {row.assessment.reference_n})"

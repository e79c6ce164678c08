"""The roles of one machine, in start order: database, node, workers, API."""

import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from dicom_node.errors import PortInUseError
from service.errors import RoleFailedError
from service.places import make_data_folder
from service.reception import open_peers
from service.settings import Settings
from service.shadowed import is_shadowed
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from service.stored import open_object_store
from service.supervisor import Role
from service.wiring import database_url, open_artefact

READY_TIMEOUT_S = 60.0


def machine_roles(settings: Settings, *, own_logs: bool) -> list[Role]:
    """Return the roles that serve one machine.

    Parameters
    ----------
    settings : Settings
        Ports chosen.
    own_logs : bool
        Each role writes a file below ``DATA/logs`` instead of our standard error.

    Raises
    ------
    PortInUseError, ArtefactError, SettingsError
        What would keep a role from starting is said before anything starts.
    """
    for host, port, setting in (
        (settings.host, settings.port, "VIGIL_PORT"),
        (settings.api_host, settings.api_port, "VIGIL_API_PORT"),
        (settings.host, settings.hl7_port, "VIGIL_HL7_PORT"),
        (settings.metrics_address, settings.node_metrics_port, "VIGIL_NODE_METRICS_PORT"),
        (settings.metrics_address, settings.worker_metrics_port, "VIGIL_WORKER_METRICS_PORT"),
        (settings.metrics_address, settings.deliver_metrics_port, "VIGIL_DELIVER_METRICS_PORT"),
    ):
        if port is not None:
            require_free_port(host, port, setting)
    make_data_folder(settings.data)
    open_artefact(settings)
    open_peers(settings)
    open_object_store(settings)
    roles = [
        _role(settings, name, arguments, own_logs=own_logs, ready=ready)
        for name, arguments, ready in (
            ("node", ("node",), lambda: _wait_for_port(settings.host, settings.port, "node")),
            ("infer", ("worker", "--pool", "infer"), None),
            ("deliver", ("worker", "--pool", "deliver"), None),
            ("api", ("api",), lambda: _wait_for_api(settings)),
        )
    ]
    shadow = _role(settings, "shadow", ("worker", "--pool", "shadow"), own_logs=own_logs, ready=None)
    roles.append(replace(shadow, is_wanted=lambda: is_shadowed(settings.data)))
    if not settings.has_embedded_database:
        _upgrade(database_url(settings))
        return roles
    return [_database_role(settings), *roles]


def choose_ports(settings: Settings) -> Settings:
    """Return the settings with a free port in place of each 0."""
    return settings.model_copy(
        update={
            "port": settings.port or free_port(settings.host),
            "api_port": settings.api_port or free_port(settings.api_host),
        }
    )


def role_command(*arguments: str) -> tuple[str, ...]:
    """Command line of one of our own roles. It ends with its supervisor where setpriv is at hand.

    ``-P``: the folder where Vigil was started is no place to take code from.
    """
    leash = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
    return (*leash, sys.executable, "-P", "-m", "service.cli", *arguments)


def free_port(host: str) -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raise PortInUseError if something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"Port {port} on {host}: {error.strerror}. Stop what uses it, or set {setting}."
            ) from error


def _database_role(settings: Settings) -> Role:
    database = EmbeddedDatabase(settings.data)

    def ready() -> None:
        database.wait_until_ready()
        _upgrade(database.url)

    database.prepare()
    return Role(
        name="database",
        command=tuple(database.command()),
        environment=settings.environment(),
        log_file=settings.logs_folder / "database.log",
        before_start=database.prepare,
        when_started=ready,
        stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown
    )


def _role(
    settings: Settings,
    name: str,
    arguments: tuple[str, ...],
    *,
    own_logs: bool,
    ready: Callable[[], None] | None,
) -> Role:
    return Role(
        name=name,
        command=role_command(*arguments),
        environment=settings.environment() | _database(settings),
        log_file=settings.logs_folder / f"{name}.log" if own_logs else None,
        when_started=ready,
    )


def _database(settings: Settings) -> dict[str, str]:
    """Variable by which a role finds the embedded database; a URL of the settings is there already."""
    return {"VIGIL_DATABASE_URL": database_url(settings)} if settings.has_embedded_database else {}


def _upgrade(url: str) -> None:
    store = Store.open(url)
    try:
        store.check()
        upgrade(store)
    finally:
        store.close()


def _wait_for_port(host: str, port: int, name: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=1.0):
                return
        except OSError:
            time.sleep(0.1)
    raise RoleFailedError(
        f"The {name} did not listen on port {port} within {READY_TIMEOUT_S:.0f} s. See its log."
    )


def _wait_for_api(settings: Settings) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if _is_ready(settings.api_host, settings.api_port):
            return
        time.sleep(0.1)
    raise RoleFailedError(
        f"The API did not answer on port {settings.api_port} within {READY_TIMEOUT_S:.0f} s."
    )


def _is_ready(host: str, port: int) -> bool:
    """Whether our own API says so; asked directly, whatever proxy the environment names for the world."""
    with closing(HTTPConnection(host, port, timeout=2.0)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False

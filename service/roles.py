"""The roles of one machine, in start order: database, node, workers, API."""

import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace

from dicom_node.errors import PortInUseError
from service.errors import RoleFailedError
from service.reception import open_peers
from service.settings import Settings
from service.shadowed import is_shadowed
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from service.stored import open_object_store
from service.supervisor import Role
from service.wiring import database_url, log_folder, open_artefact

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
    ):
        if port is not None:
            require_free_port(host, port, setting)
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
    if settings.database_url is not None:
        _upgrade(settings.database_url)
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
    """Command line of one of our own roles. It ends with its supervisor where setpriv is at hand."""
    leash = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
    return (*leash, sys.executable, "-m", "service.cli", *arguments)


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
        log_file=log_folder(settings) / "database.log",
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
        environment=settings.environment() | {"VIGIL_DATABASE_URL": database_url(settings)},
        log_file=log_folder(settings) / f"{name}.log" if own_logs else None,
        when_started=ready,
    )


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
    url = f"http://{settings.api_host}:{settings.api_port}/readyz"
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RoleFailedError(
        f"The API did not answer on port {settings.api_port} within {READY_TIMEOUT_S:.0f} s."
    )

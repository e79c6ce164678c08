"""A whole Vigil under test: started as an operator starts it, hurt, restarted, and asked how it is."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx

from tests.end_to_end.machine import SCANNER, Machine
from tests.end_to_end.peers import Orthanc, free_port, orthanc
from tests.faults import processes
from tests.faults.destinations import CountingStore, Wire, counting_store, wire_to
from tests.faults.inside import Inside
from tests.faults.traffic import Ledger, Sender, Traffic
from tests.picture_models import write_artefact

QUIET_S = 2.0
STALLED_S = 6.0  # silence after which a worker counts as dead
START_S = 120.0
GONE_S = 30.0  # for what a role forked to see that it is gone
STOP_S = 90.0  # for an orderly stop of everything, whatever is in hand
# Every role of `vigil up` that can be killed alone. The keeper is a thread of the node's first process.
ROLES = ("node", "master", "acceptor", "infer", "deliver", "api", "supervisor")
ROOT = Path(__file__).resolve().parents[2]
_JOBS = re.compile(r"^vigil_jobs\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Site:
    """``vigil up`` with two destinations: Orthanc and a store that counts, each behind a wire.

    Attributes
    ----------
    folder : Path
    data : Path
    archive : Orthanc
    counting : CountingStore
    wires : dict of str to Wire
        By the destination's name.
    ledger : Ledger
    environment : dict of str to str
        Of all roles.
    """

    folder: Path
    data: Path
    archive: Orthanc
    counting: CountingStore
    wires: dict[str, Wire]
    environment: dict[str, str]
    port: int
    api_port: int
    inside: Inside
    ledger: Ledger = field(default_factory=Ledger)
    process: subprocess.Popen[bytes] | None = None
    _loads: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "vigil.log"

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("nothing was started")
        return self.process

    @property
    def machine(self) -> Machine:
        """The same, for what the end-to-end tests ask of a machine by its API."""
        return Machine(self.data, self.port, self.api_port, cast("subprocess.Popen[bytes]", self.process))

    def start(self) -> None:
        """Start everything; return when the API says that it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "service.cli", "up",
                    "--port", str(self.port), "--api-port", str(self.api_port),
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self.supervisor.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vigil up does not get ready: {self.log.read_text()[-3000:]}")
            time.sleep(0.2)

    def is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.machine.page}/readyz", timeout=5).status_code == httpx.codes.OK
        return False

    def stop(self) -> float:
        """Stop in order; return how long it took.

        Raises
        ------
        RuntimeError
            If it does not end in time, or not with success, or leaves a process behind.
        """
        members = processes.family(self.supervisor.pid)
        begun = time.monotonic()
        self.supervisor.send_signal(signal.SIGTERM)
        try:
            code = self.supervisor.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.destroy()
            raise RuntimeError(f"vigil up does not stop within {STOP_S:.0f} s") from None
        seconds = time.monotonic() - begun
        left = processes.wait_until_gone(members, GONE_S)
        if code != 0 or left:
            commands = [" ".join(processes.command_line(pid)) for pid in left]
            processes.kill(left)
            raise RuntimeError(f"vigil up ended with {code} and left {commands}")
        return seconds

    def destroy(self) -> None:
        """End everything at once."""
        if self.process is not None:
            members = processes.family(self.process.pid)
            processes.kill(members)
            self.process.wait(timeout=30)
            processes.wait_until_gone(members, 10.0)

    def kill_supervisor(self) -> None:
        """Kill -9 the supervisor, and start again as an init system does: until it holds."""
        members = processes.family(self.supervisor.pid)
        self.supervisor.kill()
        self.supervisor.wait(timeout=30)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.start()
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
            else:
                break
        left = processes.wait_until_gone(members, STOP_S)
        if left:
            commands = [" ".join(processes.command_line(pid)) for pid in left]
            raise RuntimeError(f"roles outlived their supervisor: {commands}")

    def pids(self, role: str) -> list[int]:
        """Processes of a role, none where it is just being started again."""
        if role == "supervisor":
            return [self.supervisor.pid]
        if role == "postgres":
            with suppress(OSError, ValueError):
                return [self._postmaster()]
            return []
        words = {"infer": ["--pool", "infer"], "deliver": ["--pool", "deliver"], "api": ["api"]}
        if role in words:
            return self._roles(*words[role])
        node = self._roles("node")
        masters = [child for pid in node for child in processes.children(pid)]
        acceptors = [child for pid in masters for child in processes.children(pid)]
        return {"node": node, "master": masters, "acceptor": acceptors}[role]

    def _roles(self, *words: str) -> list[int]:
        """Children of the supervisor whose command line ends so."""
        found = [(pid, processes.command_line(pid)) for pid in processes.children(self.supervisor.pid)]
        return [pid for pid, line in found if "service.cli" in line and line[-len(words) :] == list(words)]

    def _postmaster(self) -> int:
        """The server's own file names it; a data folder has one, whoever started it."""
        return int(self.inside.postmaster_file.read_text().splitlines()[0])

    @contextmanager
    def worker(self, pool: str, *, code: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """One more worker beside those of ``vigil up``, as a second machine has it.

        Parameters
        ----------
        pool : str
        code : Path, optional
            Checkout it runs from.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "worker", "--pool", pool],
                cwd=code or ROOT,
                env=self.environment
                | {"VIGIL_DATABASE_URL": self.inside.database_url, "PYTHONPATH": str(code or ROOT)},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def waiting_jobs(self) -> float:
        """Jobs of all pools, as the metrics tell."""
        answer = httpx.get(f"{self.machine.page}/metrics", timeout=30)
        answer.raise_for_status()
        return sum(float(value) for value in _JOBS.findall(answer.text))

    def traffic(self) -> Traffic:
        """Load of studies nobody has sent before."""
        self._loads += 1
        return Traffic(
            folder=self.folder / "outbox",
            sender=Sender(port=self.port, ledger=self.ledger),
            quiet_s=QUIET_S,
            raise_priority=self.inside.raise_priority,
            name=f"load{self._loads}",
        )


@contextmanager
def site(folder: Path, *, data: Path | None = None, **settings: str) -> Iterator[Site]:
    """Run a site with empty destinations; all of it is gone when the block ends.

    Parameters
    ----------
    folder : Path
        Is made.
    data : Path, optional
        Data folder; one below `folder` where none is given.
    **settings
        Environment of all roles.
    """
    folder.mkdir(parents=True)
    data = data or folder / "vigil"
    data.mkdir(exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        archive, counting, wires = destinations(folder, stack)
        write_peers(data / "peers.yaml", wires)
        running = Site(
            folder=folder,
            data=data,
            archive=archive,
            counting=counting,
            wires=wires,
            environment=environment(folder, data) | settings,
            port=free_port(),
            api_port=free_port(),
            inside=Inside.of(data, settings.get("VIGIL_DATABASE_URL")),
        )
        stack.callback(running.destroy)
        running.start()
        yield running


def destinations(
    folder: Path, stack: ExitStack, *, host: str = "127.0.0.1"
) -> tuple[Orthanc, CountingStore, dict[str, Wire]]:
    """Two archives, each behind a wire that listens on an address of this machine."""
    archive = stack.enter_context(orthanc(folder / "orthanc"))
    counting = stack.enter_context(counting_store())
    wires = {
        "pacs": stack.enter_context(wire_to(archive.dicom_port, host=host)),
        "counting": stack.enter_context(wire_to(counting.port, host=host)),
    }
    return archive, counting, wires


def environment(folder: Path, data: Path) -> dict[str, str]:
    """Return the environment of all roles."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "VIGIL_DATA": str(data),
        "VIGIL_ACCESS": "open",
        "VIGIL_MODEL": str(write_artefact(folder / "artefact")),
        "VIGIL_STALLED_S": str(STALLED_S),
        "VIGIL_FREE_MARK_MB": "64",
        "VIGIL_LOG_MB": "64",
        "VIGIL_QUIET_S": str(QUIET_S),
        # These kills are no study's fault; three of them on one study would make it *failed*.
        "VIGIL_INFER_ATTEMPTS": "1000",
    }


def write_peers(path: Path, wires: dict[str, Wire]) -> None:
    """Write the peers file: one sender, and the destinations behind their wires."""
    timeouts = "{connect_s: 2, association_s: 4, answer_s: 4}"
    host = next(iter(wires.values())).host
    lines = [f"  - {{name: scanner, aet: {SCANNER}, host: {host}, roles: [sender], quiet_s: {QUIET_S}}}"]
    for name, wire in wires.items():
        at = f"host: {host}, port: {wire.port}, roles: [destination], timeouts: {timeouts}"
        aet = "ORTHANC" if name == "pacs" else "COUNTING"
        lines.append(f"  - {{name: {name}, aet: {aet}, {at}}}")
    path.write_text("peers:\n" + "\n".join(lines) + "\n")

"""A site of several machines: node, workers and database each behind a cable of its own.

What they share besides the database is a bucket beside it, so that the workers have a disk of their own; or
the node's data folder, as on a network disk.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.supervisor import Role, Supervisor
from tests.end_to_end.peers import free_port
from tests.faults import processes
from tests.faults.inside import Bucket, Inside, database_on_tcp
from tests.faults.network import HOSPITAL, Network, network
from tests.faults.site import ROOT, Site, destinations, environment, write_peers
from tests.faults.traffic import Sender, Traffic

NODE, WORK, BASE = "node", "work", "base"
# The application programming interface stays where we are: who looks must see while a machine is cut off.
PLACES = {"node": NODE, "infer": WORK, "deliver": WORK, "api": HOSPITAL, "database": BASE}


@dataclass(slots=True, kw_only=True)
class Machines(Site):
    """One site on three machines.

    Attributes
    ----------
    net : Network
    """

    net: Network
    _supervisor: Supervisor = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _watch: threading.Thread | None = None

    def start(self) -> None:
        """Start every role on its machine, each started again whenever it ends."""
        database = Role(
            name="database",
            command=(*self.net.on(BASE), *database_on_tcp(self.data, f"{self.net.subnet}.0/24")),
            environment=self.environment,
            log_file=self.folder / "database.log",
            when_started=self._upgrade,
        )
        roles = {
            "node": ("node", "--port", str(self.port)),
            "infer": ("worker", "--pool", "infer"),
            "deliver": ("worker", "--pool", "deliver"),
            "api": ("api", "--api-port", str(self.api_port)),
        }
        self._supervisor = Supervisor([database, *(self._role(name, words) for name, words in roles.items())])
        self._supervisor.start()
        self._watch = threading.Thread(target=self._supervisor.watch, args=(self._stop,))
        self._watch.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60.0
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the machines do not get ready: {self.log.read_text()[-3000:]}")
            time.sleep(0.2)

    def destroy(self) -> None:
        self._stop.set()
        if self._watch is not None:
            self._watch.join()
            self._supervisor.stop()

    def pids(self, role: str) -> list[int]:
        """Process of a role; `ip` has become it."""
        pid = self._supervisor.pids().get(role)
        return [pid] if pid is not None and processes.is_alive(pid) else []

    def traffic(self) -> Traffic:
        self._loads += 1
        return Traffic(
            folder=self.folder / "outbox",
            sender=Sender(host=self.net.address(NODE), port=self.port, ledger=self.ledger),
            quiet_s=2.0,
            raise_priority=self.inside.raise_priority,
            name=f"load{self._loads}",
        )

    def _role(self, name: str, words: tuple[str, ...]) -> Role:
        place = PLACES[name]
        prefix = () if place == HOSPITAL else self.net.on(place)
        return Role(
            name=name,
            command=(*prefix, sys.executable, "-m", "service.cli", *words),
            environment=self.environment | (self._own_disk() if place == WORK else {}),
            log_file=self.log,
        )

    def _own_disk(self) -> dict[str, str]:
        """Return what a machine needs that sees nothing of the node's disk but what every site hands out."""
        if self.inside.bucket is None:
            return {}
        return {
            "VIGIL_DATA": str(self.folder / WORK),
            "VIGIL_PEERS": str(self.data / "peers.yaml"),
            "VIGIL_KEY_FILE": str(self.data / "site.key"),
        }

    def _upgrade(self) -> None:
        self.inside.wait_for_database()
        upgrade = [sys.executable, "-m", "service.cli", "db", "upgrade"]
        subprocess.run(upgrade, env=self.environment, cwd=ROOT, timeout=60, check=True)


@contextmanager
def machines(folder: Path, *, has_bucket: bool) -> Iterator[Machines]:
    """Run a site on three machines.

    Parameters
    ----------
    folder : Path
        Is made.
    has_bucket : bool
        Studies and results go through a bucket; otherwise through a folder that all machines see.
    """
    folder.mkdir(parents=True)
    data = folder / "vigil"
    data.mkdir(mode=0o700)
    with ExitStack() as stack:
        net = stack.enter_context(network([NODE, WORK, BASE]))
        archive, counting, wires = destinations(folder, stack, host=net.address(HOSPITAL))
        write_peers(data / "peers.yaml", wires)
        bucket = stack.enter_context(_bucket(net)) if has_bucket else None
        url = f"postgresql://vigil@{net.address(BASE)}/vigil"
        where = {"VIGIL_DATABASE_URL": url, "VIGIL_HOST": net.address(NODE)}
        running = Machines(
            folder=folder,
            data=data,
            archive=archive,
            counting=counting,
            wires=wires,
            environment=environment(folder, data) | where | (bucket.environment() if bucket else {}),
            port=free_port(),
            api_port=free_port(),
            inside=Inside.of(data, url, bucket),
            net=net,
        )
        stack.callback(running.destroy)
        running.start()
        yield running


@contextmanager
def _bucket(net: Network) -> Iterator[Bucket]:
    """Bucket in memory, on the machine of the database."""
    host, port = net.address(BASE), free_port()
    server = subprocess.Popen(
        [*net.on(BASE), sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Bucket.make(f"http://{host}:{port}")
    finally:
        server.terminate()
        server.wait(timeout=30)

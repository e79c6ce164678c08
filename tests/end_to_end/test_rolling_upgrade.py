"""Releases side by side under load: workers are changed one by one, and no study is lost or done twice."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text

from service import __version__
from service.cli import EXIT_REMEDY
from service.store import Store
from service.store.migrations import upgrade
from service.supervisor import STOP_TIMEOUT_S
from tests.databases import empty_databases
from tests.end_to_end.machine import SCANNER
from tests.end_to_end.peers import MISSING, free_port
from tests.faults.destinations import COUNTING_AET, CountingStore, counting_store
from tests.faults.releases import LATER, later_release
from tests.faults.site import ROOT
from tests.faults.traffic import Ledger, Sender, make_study
from tests.picture_models import write_artefact

NEXT = "99.0.0"
INFER = "worker --pool infer"
STOPS_OLD = f"UPDATE vigil.schema_support SET oldest = '{LATER}'"  # noqa: S608 - a word of this file
PAUSE_S = 0.5  # of the scanner between two studies
MOST_WAITING = 6  # studies
SOON_S = 120.0
SHARE = 2  # studies that a release is given to score before it is replaced

pytestmark = [pytest.mark.postgres, pytest.mark.peers, pytest.mark.slow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Roles of several releases on one database."""

    folder: Path
    store: Store
    archive: CountingStore
    sender: Sender
    environment: dict[str, str]
    _roles: ExitStack
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def start(self, *roles: str, release: Path = ROOT) -> list[subprocess.Popen[bytes]]:
        """Start roles of a release at once, and return when all of them work."""
        started = []
        for role in roles:
            log = self.folder / f"{next(self._numbers)}.log"
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", "service.cli", *role.split()],
                    cwd=release,
                    env=self.environment | {"PYTHONPATH": str(release)},
                    stdout=file,
                    stderr=file,
                )
            self._roles.callback(_end, process)
            started.append((process, log))
        until(lambda: all(" ready" in log.read_text() for _, log in started))
        return [process for process, _ in started]

    def migrate(self, release: Path) -> None:
        """Bring the database to the schema of a release, with its own command."""
        subprocess.run(
            [sys.executable, "-m", "service.cli", "db", "upgrade"],
            cwd=release,
            env=self.environment | {"PYTHONPATH": str(release)},
            check=True,
            timeout=SOON_S,
        )

    def send(self) -> None:
        """Send a study that nobody has seen; return when the node has said that it has all of it."""
        study = make_study(self.folder / "outbox", f"load-{next(self._numbers)}", "plain")
        self.sender.send(study)

    @contextmanager
    def load(self) -> Iterator[None]:
        """A scanner that sends study after study while the block runs; a slow machine is not buried."""
        over = threading.Event()

        def send() -> None:
            while not over.wait(PAUSE_S):
                if len(self.sender.ledger.studies) - self.scored_by().total() < MOST_WAITING:
                    self.send()

        scanner = threading.Thread(target=send)
        scanner.start()
        try:
            yield
        finally:
            over.set()
            scanner.join()

    def scored_by(self) -> Counter[str]:
        """How many studies each release scored."""
        with self.store.transaction() as session:
            made = text("SELECT software->>'vigil' FROM vigil.score WHERE state = 'scored'")
            return Counter(session.scalars(made))

    def wait_for_share(self, version: str) -> None:
        """Return when a release has scored `SHARE` studies more."""
        before = self.scored_by()[version]
        until(lambda: self.scored_by()[version] >= before + SHARE)

    def wait_until_done(self) -> None:
        """Return when all that the scanner sent is scored, and every result is where it belongs."""
        until(lambda: self._count("study WHERE state = 'scored'") == len(self.sender.ledger.studies))
        until(lambda: self._count("delivery WHERE status <> 'delivered'") == 0)

    def _count(self, of: str) -> int:
        with self.store.transaction() as session:
            return session.scalar(text(f"SELECT count(*) FROM vigil.{of}")) or 0  # noqa: S608 - words of this file

    def findings(self) -> list[object]:
        """What is lost, failed, or there twice. A result may be sent again, as the same bytes."""
        with self.store.transaction() as session:
            wrong: list[object] = list(
                session.execute(
                    text(
                        "SELECT study.key, revision.number, count(score.id) FROM vigil.study"
                        " JOIN vigil.revision ON revision.study_id = study.id"
                        " LEFT JOIN vigil.score ON revision_id = revision.id AND score.state = 'scored'"
                        " GROUP BY study.id, revision.id HAVING count(score.id) <> 1"
                    )
                )
            )
            uids = set(session.scalars(text("SELECT sop_instance_uid FROM vigil.result")))
            wrong += session.scalars(text("SELECT reason FROM vigil.score WHERE state = 'failed'"))
        received = self.archive.digests()
        wrong += uids ^ received.keys()
        return wrong + [digests for digests in received.values() if len(set(digests)) != 1]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=SOON_S)
    process.kill()
    process.wait()


def stop(process: subprocess.Popen[bytes]) -> int:
    """Tell a role to end as a roll-out does; its exit code, within the time that the documents promise."""
    process.terminate()
    return process.wait(timeout=STOP_TIMEOUT_S)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("model") / "artefact")


@pytest.fixture
def site(tmp_path: Path, store: Store, artefact: Path) -> Iterator[Site]:
    """A node of this release that receives, on a database of this release."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    data, port = tmp_path / "vigil", free_port()
    data.mkdir(mode=0o700)
    with ExitStack() as stack:
        (own,) = stack.enter_context(empty_databases(store, "rolling"))
        upgrade(own)
        archive = stack.enter_context(counting_store())
        (data / "peers.yaml").write_text(
            "peers:\n"
            f"  - {{name: scanner, aet: {SCANNER}, host: 127.0.0.1, roles: [sender], quiet_s: 1}}\n"
            f"  - {{name: pacs, aet: {COUNTING_AET}, host: 127.0.0.1, port: {archive.port},"
            " roles: [destination]}\n"
        )
        site = Site(
            folder=tmp_path,
            store=own,
            archive=archive,
            sender=Sender(port=port, ledger=Ledger()),
            environment=os.environ
            | {
                "VIGIL_DATA": str(data),
                "VIGIL_DATABASE_URL": own.url,
                "VIGIL_FREE_MARK_MB": "64",
                "VIGIL_LOG_MB": "64",
                "VIGIL_MODEL": str(artefact),
                "VIGIL_PORT": str(port),
                "VIGIL_RESULTS": "sr",  # of which each study has one
                "VIGIL_STALLED_S": "6",
            },
            _roles=stack.enter_context(ExitStack()),
        )
        yield site


def test_workers_are_changed_one_by_one_there_and_back_and_nothing_is_lost(site: Site) -> None:
    release = later_release(
        site.folder / "next", version=NEXT, statement="ALTER TABLE vigil.study ADD COLUMN tomorrow text"
    )
    _, _, *workers = site.start("node", "worker --pool deliver", INFER, INFER)
    with site.load():
        site.migrate(release)
        site.wait_for_share(__version__)  # the schema is ahead, and says that it supports us
        later = site.start(INFER, INFER, release=release)
        assert [stop(worker) for worker in workers] == [0, 0]
        site.wait_for_share(NEXT)
        site.start(INFER)
        assert [stop(worker) for worker in later] == [0, 0]
        site.wait_for_share(__version__)
    site.wait_until_done()

    made = site.scored_by()
    assert site.findings() == []
    assert made.keys() == {__version__, NEXT}
    assert made.total() == len(site.sender.ledger.studies)


@pytest.mark.long
def test_a_schema_that_stops_old_workers_leaves_their_work_to_the_new_ones(site: Site) -> None:
    release = later_release(site.folder / "next", version=NEXT, statement=STOPS_OLD)
    node, worker = site.start("node", INFER)
    with site.load():
        site.wait_for_share(__version__)
        site.migrate(release)
        assert worker.wait(timeout=SOON_S) == EXIT_REMEDY
        site.send()  # the old node receives all the same
        assert stop(node) == 0
        site.start("node", INFER, "worker --pool deliver", release=release)
        site.wait_for_share(NEXT)
    site.wait_until_done()

    assert site.findings() == []
    assert site.scored_by().total() == len(site.sender.ledger.studies)

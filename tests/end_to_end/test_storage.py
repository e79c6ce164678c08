"""Roles on machines of their own: nothing is shared but the database and a bucket."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.scu import send_files
from service.demonstration.studies import write_studies
from service.store import Store
from service.store.detail import study_detail
from service.store.tables import Base
from tests.bucket import ACCESS_KEY, BUCKET, SECRET_KEY, Bucket, bucket
from tests.end_to_end.node import running_node
from tests.end_to_end.peers import free_port
from tests.fakes import FakeArchive, archive
from tests.phantoms import mr_image, write

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]

TIMEOUT_S = 120.0
RESULTS = (Comprehensive3DSRStorage, MultiFrameTrueColorSecondaryCaptureImageStorage, SegmentationStorage)
SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"]


@dataclass(frozen=True, slots=True)
class Site:
    """What all machines are told, and nothing else."""

    folder: Path
    database_url: str
    bucket: Bucket
    pacs: FakeArchive

    def __post_init__(self) -> None:
        for name, content in (("site.key", b"s" * 32), ("access", ACCESS_KEY), ("secret", SECRET_KEY)):
            path = self.folder / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o600)
        (self.folder / "peers.yaml").write_text(
            "peers:\n"
            "  - {name: scanner, aet: SCANNER, host: 127.0.0.1, roles: [sender], quiet_s: 1}\n"
            "  - {name: pacs, aet: ARCHIVE, host: 127.0.0.1, roles: [destination],"
            f" port: {self.pacs.port}}}\n"
        )

    @contextmanager
    def role(self, machine: str, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """A role on a machine with its own disk; killed at the end if it does not stop."""
        own = self.folder / machine
        own.mkdir(exist_ok=True)
        environment = os.environ | {
            "VIGIL_DATA": str(own / "data"),
            "VIGIL_ACCESS": "open",
            "VIGIL_KEY_FILE": str(self.folder / "site.key"),
            "VIGIL_PEERS": str(self.folder / "peers.yaml"),
            "VIGIL_DATABASE_URL": self.database_url,
            "VIGIL_STORE": f"s3://{BUCKET}/site",
            "VIGIL_STORE_ENDPOINT": self.bucket.endpoint,
            "VIGIL_STORE_ACCESS_KEY_FILE": str(self.folder / "access"),
            "VIGIL_STORE_SECRET_KEY_FILE": str(self.folder / "secret"),
            "VIGIL_FREE_MARK_MB": "64",
            "VIGIL_LANDING": "files",
            "VIGIL_STALLED_S": "3",
            **settings,
        }
        with (own / "log").open("ab") as log:
            command = [sys.executable, "-m", "service.cli", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, machine: str) -> str:
        return (self.folder / machine / "log").read_text()


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Iterator[Site]:
    contexts = [(uid, SYNTAXES) for uid in RESULTS]
    with bucket() as served, archive(tmp_path, contexts=contexts) as pacs:
        yield Site(tmp_path, store.url, served, pacs)


def until(ask: Callable[[], Any], site: Site) -> Any:
    """Return the first answer that says yes."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.2)
    logs = {path.parent.name: path.read_text()[-3000:] for path in site.folder.glob("*/log")}
    raise TimeoutError(f"it never came to pass: {logs}")


@pytest.mark.long
def test_a_study_crosses_machines_although_node_and_worker_are_killed(site: Site, store: Store) -> None:
    study = write_studies(site.folder / "demonstration")[0]
    port, api_port = free_port(), free_port()
    node = ("node", "--port", str(port))

    with site.role("node", *node, VIGIL_QUIET_S="1") as process:
        until(lambda: "vigil node ready" in site.log("node"), site)
        receipts = list(
            send_files(study.paths, host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL")
        )
        assert all(receipt.is_stored for receipt in receipts)
        until(lambda: keys(store), site)  # taken in, its quiet period runs
        process.send_signal(signal.SIGKILL)
    time.sleep(1)  # for acceptors to see that their parent is gone
    (key,) = keys(store)

    with ExitStack() as stack:
        stack.enter_context(site.role("node", *node))
        until(lambda: state(store, key) == "queued", site)
        with site.role("infer", "worker", "--pool", "infer") as worker:
            until(lambda: attempts(store) > 0, site)
            worker.send_signal(signal.SIGKILL)  # in the middle, or just after
        stack.enter_context(site.role("infer", "worker", "--pool", "infer"))
        stack.enter_context(site.role("deliver", "worker", "--pool", "deliver"))
        stack.enter_context(site.role("api", "api", "--api-port", str(api_port)))
        until(lambda: state(store, key) == "scored", site)
        until(lambda: delivered(store, key), site)
        picture = until(
            lambda: answer(f"http://127.0.0.1:{api_port}/api/v1/studies/{key}/pictures/0.png"), site
        )

    assert picture.content.startswith(b"\x89PNG")
    with store.transaction() as session:
        (revision,) = study_detail(session, key).revisions
    (score,) = revision.scores
    assert {result.kind for result in score.results} >= {"sc", "sr"}
    assert len(site.pacs.received) == len(score.results)
    # No worker holds anything of the study; the scratch is given back, the killed one's too.
    for machine in ("infer", "deliver"):
        data = site.folder / machine / "data"
        assert [path for path in data.rglob("*") if path.is_file() and "engines" not in path.parts] == []
    words = "".join(site.log(machine) for machine in ("node", "infer", "deliver", "api"))
    assert SECRET_KEY not in words
    assert study.study_uid not in words
    assert '"exception"' not in words


def keys(store: Store) -> list[str]:
    with store.transaction() as session:
        return [row.key for row in session.execute(Base.metadata.tables["vigil.study"].select())]


def state(store: Store, key: str) -> str:
    with store.transaction() as session:
        return study_detail(session, key).row.state.value


def attempts(store: Store) -> int:
    with store.transaction() as session:
        return sum(row.attempts for row in session.execute(Base.metadata.tables["vigil.score"].select()))


def delivered(store: Store, key: str) -> bool:
    with store.transaction() as session:
        (revision,) = study_detail(session, key).revisions
    statuses = [one.status.value for result in revision.scores[0].results for one in result.deliveries]
    return bool(statuses) and set(statuses) == {"delivered"}


def answer(url: str) -> Any:
    try:
        found = httpx.get(url, timeout=10)
    except httpx.HTTPError:
        return None
    return found if found.status_code == httpx.codes.OK else None


def test_above_the_quota_senders_hear_that_there_is_no_room(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (512, 512)).astype(np.uint16)
    images = write(tmp_path / "sent", [mr_image("phantom", number, pixels) for number in range(3)])

    with running_node(tmp_path / "node", VIGIL_SPOOL_QUOTA_MB=1, VIGIL_LANDING="files") as node:
        deadline = time.monotonic() + 60
        statuses: list[int | None] = []
        while not statuses or 0xA700 not in statuses:
            assert time.monotonic() < deadline, statuses
            statuses += [
                receipt.status
                for receipt in send_files(
                    images, host="127.0.0.1", port=node.port, calling_aet="SCANNER", called_aet="VIGIL"
                )
            ]
            time.sleep(0.5)

    assert statuses[:2] == [0, 0]  # what the quota allowed
    assert set(statuses) == {0, 0xA700}

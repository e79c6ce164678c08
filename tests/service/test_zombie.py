"""A worker that was taken for dead and comes back late."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from service import engine
from service.engine import Pool
from service.reaper import Reaper
from service.store import Store, jobs, studies
from service.store.tables import DeliveryRow, ResultRow, StudyRow
from service.study import State
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = pytest.mark.postgres

STALLED_S = 30.0

# A worker that stores a result of its own when it is let go; it says whether it was the first.
PROGRAM = """
import sys, time
from pathlib import Path
from service.engine import Pool
from service.reaper import Reaper
from service.store import Store, jobs
from service.store.jobs import Outcome
from service.store.results import StoredResult
from service.study import State
from service.worker import run_worker

url, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = Store.open(url)

class Work:
    def run(self, score_id):
        with store.transaction() as session:
            job = jobs.begin(session, score_id)
        (folder / f"{name}.began").touch()
        while not (folder / f"{name}.go").exists():
            time.sleep(0.05)
        result = StoredResult(
            kind="sr", sop_class_uid="1.2", sop_instance_uid="2.25.1", path=name, sha256=name, bytes=1
        )
        outcome = Outcome(
            state=State.SCORED, values={"p_value": 0.5, "study_score": 1.0}, results=[result]
        )
        with store.transaction() as session:
            stored = jobs.record(session, job, outcome, lambda _: ["pacs"])
        (folder / f"{name}.{'lost' if stored is None else 'won'}").touch()
    def failed(self, score_id, error):
        (folder / f"{name}.failed").touch()

run_worker({Pool.INFER: Work()}, database_url=url, reaper=Reaper(store=store, stalled_s=1000))
"""


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < deadline, f"never: {path.name}"
        time.sleep(0.05)


def _start(store: Store, folder: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, store.url, str(folder), name], stderr=subprocess.DEVNULL
    )


def test_a_worker_that_wakes_after_its_job_was_given_away_stores_nothing(
    store: Store, tmp_path: Path
) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=NOON)
        assert score_id is not None
        engine.enqueue(session, Pool.INFER, score_id, priority=10)
    zombie = _start(store, tmp_path, "zombie")
    heir = None
    try:
        _wait_for(tmp_path / "zombie.began")
        os.kill(zombie.pid, signal.SIGSTOP)
        with store.transaction() as session:
            session.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 h'"))
        assert Reaper(store=store, stalled_s=STALLED_S).step() == 1
        heir = _start(store, tmp_path, "heir")
        _wait_for(tmp_path / "heir.began")
        (tmp_path / "heir.go").touch()
        _wait_for(tmp_path / "heir.won")
        (tmp_path / "zombie.go").touch()
        os.kill(zombie.pid, signal.SIGCONT)
        _wait_for(tmp_path / "zombie.lost")
    finally:
        for process in (zombie, heir):
            if process is not None:
                process.kill()
                process.wait()

    with store.transaction() as session:
        assert session.scalars(select(ResultRow.path)).all() == ["heir"]
        assert session.scalar(select(func.count()).select_from(DeliveryRow)) == 1
        assert session.scalars(select(StudyRow.state)).one() is State.SCORED

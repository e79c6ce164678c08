import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service import engine, supervisor
from service import worker as worker_module
from service.engine import Pool
from service.store import Store, census
from service.worker import EXIT_ABANDONED, LAST_GRACE_S, POLL_S, STOP_TIMEOUT_S, WORD_S
from tests.service.test_migrations import of_release

pytestmark = pytest.mark.postgres

LOOK_S = 60.0  # between two looks of a worker that is to be woken: no load makes a wake that slow

# A worker process whose work is to write down what it was asked; row 13 fails, row 99 takes long.
PROGRAM = """
import sys, time
from service.engine import Pool
from service.reaper import Reaper
from service import worker
from service.store import Store
from service.worker import run_worker

if len(sys.argv) > 3:
    worker.STOP_TIMEOUT_S, worker.LAST_GRACE_S, worker.POLL_S = map(float, sys.argv[3:])

class Work:
    def note(self, line):
        with open(sys.argv[2], "a") as file:
            file.write(line + "\\n")
    def run(self, row_id):
        self.note(f"run {row_id}")
        if row_id == 13:
            raise ValueError("bad row")
        if row_id == 99:
            time.sleep(2)
            self.note("end 99")
        if row_id == 1000:
            time.sleep(1000)
    def failed(self, row_id, error):
        self.note(f"failed {row_id} {type(error).__name__}")
    def abandon(self):
        self.note("abandoned")
        time.sleep(1000)  # as where the database does not answer

reaper = Reaper(store=Store.open(sys.argv[1]), stalled_s=6)
work = Work()
ended = run_worker(
    {Pool.INFER: work}, database_url=sys.argv[1], reaper=reaper, on_abandon=work.abandon
)
sys.exit(0 if ended.name == "TOLD" else ended.name)
"""


class WorkerProcess:
    def __init__(self, url: str, notes: Path, *times_s: float) -> None:
        self.notes = notes
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, str(notes), *map(str, times_s)], stderr=subprocess.DEVNULL
        )

    def wait_for(self, line: str, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not (self.notes.exists() and line in self.notes.read_text().splitlines()):
            assert time.monotonic() < deadline, f"never noted: {line}"
            time.sleep(0.05)


@pytest.fixture
def worker(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> WorkerProcess:
    worker = WorkerProcess(store.url, tmp_path / "notes", *getattr(request, "param", ()))
    yield worker  # type: ignore[misc]
    worker.process.kill()
    worker.process.wait()


def test_jobs_run_by_priority_and_a_failure_stops_nothing(store: Store, worker: WorkerProcess) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
        engine.enqueue(session, Pool.INFER, 13, priority=20)
        engine.enqueue(session, Pool.INFER, 2, priority=30)

    worker.wait_for("run 1")

    assert worker.notes.read_text().splitlines() == ["run 2", "run 13", "failed 13 ValueError", "run 1"]


def test_a_worker_says_what_it_works_for(store: Store, worker: WorkerProcess) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
    worker.wait_for("run 1")

    with store.transaction() as session:
        found = census.live_workers(session, stalled_s=60)
    assert (found.processes, found.by_pool["infer"], found.by_pool[census.UNKNOWN]) == (1, 1, 0)


def test_a_worker_of_deliveries_is_none_that_scores(store: Store) -> None:
    with store.transaction() as session:
        for pools in ("deliver,message", "shadow"):
            session.execute(
                text("INSERT INTO procrastinate_workers (vigil_pools) VALUES (:pools)"), {"pools": pools}
            )
        without = census.live_workers(session, stalled_s=60)
        session.execute(text("INSERT INTO procrastinate_workers DEFAULT VALUES"))  # an earlier release
        found = census.live_workers(session, stalled_s=60)

    assert (without.processes, without.of(Pool.INFER), without.of(Pool.MESSAGE)) == (2, 0, 1)
    assert (found.processes, found.of(Pool.INFER), found.of(Pool.MESSAGE)) == (3, 1, 2)
    assert found.by_pool == {"infer": 0, "deliver": 1, "message": 1, "shadow": 1, census.UNKNOWN: 1}


def test_a_job_in_hand_is_finished_before_the_worker_stops(store: Store, worker: WorkerProcess) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 99, priority=10)
    worker.wait_for("run 99")

    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=60) == 0

    assert "end 99" in worker.notes.read_text()
    with store.transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM procrastinate_jobs")) == 0


def test_the_job_of_a_killed_worker_is_known_as_lost(store: Store, worker: WorkerProcess) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 99, priority=10)
    worker.wait_for("run 99")

    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()

    with store.transaction() as session:
        assert engine.without_live_job(session, Pool.INFER, [99], stalled_s=60) == []
    with store.transaction() as session:
        session.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'"))
        assert engine.without_live_job(session, Pool.INFER, [99], stalled_s=60) == [99]


def test_a_second_signal_does_not_wait_for_the_job_in_hand(store: Store, worker: WorkerProcess) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1000, priority=10)
    worker.wait_for("run 1000")

    worker.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(timeout=1)
    worker.process.send_signal(signal.SIGTERM)

    assert worker.process.wait(timeout=30) == EXIT_ABANDONED
    assert worker.notes.read_text().splitlines() == ["run 1000", "abandoned"]
    with store.transaction() as session:
        session.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'"))
        assert engine.without_live_job(session, Pool.INFER, [1000], stalled_s=60) == [1000]


@pytest.mark.parametrize("worker", [(1.0, 0.5, POLL_S)], indirect=True)
def test_a_job_that_does_not_end_is_given_back_within_the_grace_period(
    store: Store, worker: WorkerProcess
) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1000, priority=10)
    worker.wait_for("run 1000")

    worker.process.send_signal(signal.SIGTERM)

    assert worker.process.wait(timeout=1.0 + 0.5 + WORD_S + 30.0) == EXIT_ABANDONED
    assert worker.notes.read_text().splitlines() == ["run 1000", "abandoned"]


def test_a_machine_gives_its_workers_the_time_that_they_take() -> None:
    assert STOP_TIMEOUT_S + LAST_GRACE_S + WORD_S < supervisor.STOP_TIMEOUT_S


@dataclass
class Unheard:
    """Work whose failure is stored only once the database is back."""

    refusals: int
    told: list[int] = field(default_factory=list)

    def run(self, row_id: int) -> None:
        raise ValueError(row_id)

    def failed(self, row_id: int, error: Exception) -> None:
        self.told.append(row_id)
        if len(self.told) <= self.refusals:
            raise OperationalError("UPDATE", None, error)


def test_a_failure_is_told_again_when_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "PATIENCE_S", (0.0, 0.0))
    back, away = Unheard(refusals=2), Unheard(refusals=9)

    worker_module._task(back)(7)
    with pytest.raises(OperationalError):
        worker_module._task(away)(7)

    assert (back.told, away.told) == ([7] * 3, [7] * 3)


def test_an_idle_worker_stops_at_once_with_success(store: Store, worker: WorkerProcess) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
    worker.wait_for("run 1")

    worker.process.send_signal(signal.SIGINT)

    assert worker.process.wait(timeout=30) == 0


@pytest.mark.parametrize("worker", [(STOP_TIMEOUT_S, LAST_GRACE_S, LOOK_S)], indirect=True)
def test_a_committed_job_wakes_a_worker_without_waiting_for_its_next_look(
    store: Store, worker: WorkerProcess
) -> None:
    """Through our own connection, so that the notification leaves with our commit."""
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
    worker.wait_for("run 1")
    waits = []
    for row in range(2, 8):
        time.sleep(0.3)  # asleep again
        committed = time.monotonic()
        with store.transaction() as session:
            engine.enqueue(session, Pool.INFER, row, priority=10)
        worker.wait_for(f"run {row}")
        waits.append(time.monotonic() - committed)

    assert statistics.median(waits) < LOOK_S / 4, waits


def test_a_worker_ends_when_the_database_comes_to_belong_to_a_newer_release(
    store: Store, worker: WorkerProcess
) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
    worker.wait_for("run 1")

    with of_release(store, "9999", oldest="9998"):
        assert worker.process.wait(timeout=60) == 1
        with store.transaction() as session:
            engine.enqueue(session, Pool.INFER, 2, priority=10)
            assert engine.depth(session)[Pool.INFER].waiting == 1

"""A database and workers whose inference is a sleep: what the benchmarks of the engine measure with."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from service import engine
from service.engine import Pool
from service.store import Store, jobs, studies
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from service.store.studies import Arrival
from service.study import Priority

# A worker of either pool: sleeps as long as inference would take, records one result; or delivers it.
WORKER = """
import sys, time
from service import engine
from service.engine import Pool
from service.reaper import Reaper
from service.store import Store, deliveries, jobs
from service.store.jobs import Outcome
from service.store.results import StoredResult
from service.study import DeliveryStatus, State
from service.worker import run_worker

url, pool, seconds = sys.argv[1], Pool(sys.argv[2]), float(sys.argv[3])
store = Store.open(url)

class Infer:
    def run(self, score_id):
        with store.transaction() as session:
            job = jobs.begin(session, score_id)
        if job is None:
            return
        time.sleep(seconds)
        result = StoredResult(
            kind="sr", sop_class_uid="1.2", sop_instance_uid=f"2.25.{score_id}", path="x", sha256="0", bytes=1
        )
        values = {"p_value": 0.5, "study_score": 1.0}
        outcome = Outcome(state=State.SCORED, values=values, results=[result])
        with store.transaction() as session:
            for delivery_id in jobs.record(session, job, outcome, lambda _: ["pacs"]) or []:
                engine.enqueue(session, Pool.DELIVER, delivery_id, priority=job.priority)
    def failed(self, score_id, error):
        raise error

class Deliver:
    def run(self, delivery_id):
        with store.transaction() as session:
            if deliveries.begin(session, delivery_id):
                deliveries.record(session, delivery_id, status=DeliveryStatus.DELIVERED, answer=0)
    def failed(self, delivery_id, error):
        raise error

work = Infer() if pool is Pool.INFER else Deliver()
run_worker({pool: work}, database_url=url, reaper=Reaper(store=store, stalled_s=30), slots=1)
"""


@contextmanager
def database(folder: Path, url: str | None) -> Iterator[Store]:
    """Run the embedded PostgreSQL as it ships, or use the one at `url`; its empty tables."""
    server = None
    if url is None:
        embedded = EmbeddedDatabase(folder)
        embedded.prepare()
        server = subprocess.Popen(embedded.command(), stderr=subprocess.DEVNULL)
        embedded.wait_until_ready()
        url = embedded.url
    store = Store.open(url)
    try:
        upgrade(store)
        yield store
    finally:
        store.close()
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait()


@contextmanager
def workers(store: Store, *, infer: int, deliver: int, inference_s: float) -> Iterator[list[int]]:
    """Run worker processes; their process ids."""
    kinds = [Pool.INFER] * infer + [Pool.DELIVER] * deliver
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, store.url, pool.value, str(inference_s)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        for pool in kinds
    ]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            process.kill()


def send(store: Store, key: str, priority: Priority = Priority.ROUTINE) -> int:
    """Let a study arrive, be complete and be queued, as the intake does; id of its score."""
    now = datetime.now(UTC)
    arrival = Arrival(
        file_name="a.dcm",
        sha256=key,
        bytes=1,
        sop_class_uid="1.2",
        is_own=False,
        sender="BENCH",
        received_at=now,
        modality="MR",
        description="",
    )
    with store.transaction() as session:
        studies.register(session, key, [arrival])
        studies.raise_priority(session, key, priority)
        revision = studies.complete(session, key, completed_by="quiet_period", now=now)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=now)
        assert score_id is not None
        engine.enqueue(session, Pool.INFER, score_id, priority=max(revision.priority, priority))
    return score_id


def memory_mb(pid: int) -> float:
    """Memory of a process that is its own or shared, in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def engine_mb(store: Store) -> float:
    """Disk that the engine's tables and their indexes take, in megabytes."""
    with store.transaction() as session:
        size = session.scalar(
            text(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n"
                " ON n.oid = c.relnamespace WHERE n.nspname = 'procrastinate' AND c.relkind = 'r'"
            )
        )
    return float(size or 0) / 1e6

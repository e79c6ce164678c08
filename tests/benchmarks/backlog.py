"""A backlog and one emergency: how long until a worker claims a STAT study that arrives behind thousands.

``python -m tests.benchmarks.backlog`` queues 30,000 studies, starts workers whose inference is a sleep, and
lets STAT studies arrive while they work. It prints how long each waited from its commit to its claim, the
memory of the workers, and what the reaper takes at this depth; it fails above half a second.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import select, text

from service import engine
from service.engine import Pool
from service.reaper import Reaper
from service.store import Store
from service.store.tables import ScoreRow
from service.study import Priority
from tests.benchmarks.pool import database, engine_mb, memory_mb, send, workers

LIMIT_S = 0.5
GROWTH = 1.1  # of a worker's memory, from its first look to its last
INFERENCE_S = 0.05
WARM_S = 8.0
BETWEEN_S = 2.0

FILL = (
    """
    INSERT INTO vigil.study (key, state, received_at, last_instance_at, is_pending, completed_at)
    SELECT 'backlog-' || n, 'queued', now(), now(), false, now() FROM generate_series(1, :n) n
    """,
    """
    INSERT INTO vigil.revision (study_id, number, content_hash, completed_by)
    SELECT id, 1, key, 'quiet_period' FROM vigil.study LIMIT :n
    """,
    """
    INSERT INTO vigil.score (revision_id, model_hash, config_digest, run_at, state)
    SELECT id, 'm', 'c', now(), 'queued' FROM vigil.revision LIMIT :n
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args)
    SELECT 'infer', 'vigil.infer', 10, jsonb_build_object('row_id', id) FROM vigil.score LIMIT :n
    """,
)


def fill(store: Store, count: int) -> float:
    """Queue `count` routine studies in one statement a table; seconds it took."""
    begun = time.monotonic()
    with store.transaction() as session:
        for statement in FILL:
            session.execute(text(statement), {"n": count})
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return time.monotonic() - begun


def claim_s(store: Store, number: int) -> float:
    """Let a STAT study arrive; seconds from its commit to its claim."""
    score_id = send(store, f"stat-{number}", Priority.STAT)
    committed = time.time()
    while True:
        with store.transaction() as session:
            began = session.scalar(select(ScoreRow.began_at).where(ScoreRow.id == score_id))
        if began is not None:
            return max(began.timestamp() - committed, 0.0)
        time.sleep(0.02)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.backlog")
    parser.add_argument("--studies", type=int, default=30_000)
    parser.add_argument("--stat", type=int, default=10, help="STAT studies, one after the other")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--database", help="PostgreSQL to use, empty; else the embedded one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(Path(folder) / "data", chosen.database) as store:
        print(f"queued {chosen.studies} studies in {fill(store, chosen.studies):.1f} s")
        print(f"the engine's tables take {engine_mb(store):.0f} MB")
        begun = time.monotonic()
        Reaper(store=store, stalled_s=30).step()
        reaped_s = time.monotonic() - begun
        with workers(store, infer=chosen.workers, deliver=1, inference_s=INFERENCE_S) as pids:
            time.sleep(WARM_S)
            first = [memory_mb(pid) for pid in pids]
            waits = []
            for number in range(chosen.stat):
                waits.append(claim_s(store, number))
                time.sleep(BETWEEN_S)
            growth = max(memory_mb(pid) / before for pid, before in zip(pids, first, strict=True))
            with store.transaction() as session:
                left = engine.depth(session)[Pool.INFER].waiting
    worst = max(waits)
    print(f"STAT, commit to claim: median {statistics.median(waits):.3f} s, longest {worst:.3f} s")
    print(f"a look of the reaper: {reaped_s:.2f} s; left in the queue: {left}")
    print(f"memory of a worker: {max(first):.0f} MB after {WARM_S:.0f} s, times {growth:.2f} at the end")
    is_good = worst < LIMIT_S and growth < GROWTH
    print("good" if is_good else f"BAD: limits are {LIMIT_S} s and times {GROWTH}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Traffic without end, as fast as it goes: do memory and tables stay flat?

``python -m tests.benchmarks.soak --minutes 10`` lets studies arrive, be scored (a sleep of 10 ms) and be
delivered. A day of a busy site is 2,000 studies; the number that went through says how many such days these
minutes were. It prints a line per tenth and fails where the last quarter takes more than the second.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from sqlalchemy import func, select

from service import engine
from service.store import Store
from service.store.tables import DeliveryRow
from service.study import DeliveryStatus
from tests.benchmarks.pool import database, engine_mb, memory_mb, send, workers

A_DAY = 2_000  # studies
GROWTH = 1.1
INFERENCE_S = 0.01
MOST_WAITING = 50  # more arrive only when these are through
LOOKS = 40


def delivered(store: Store) -> int:
    """Results that arrived so far."""
    with store.transaction() as session:
        done = select(func.count()).where(DeliveryRow.status == DeliveryStatus.DELIVERED)
        return session.scalar(done) or 0


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--database", help="PostgreSQL to use, empty; else the embedded one")
    chosen = parser.parse_args()
    look_s = chosen.minutes * 60 / LOOKS
    memory, tables = [], []
    numbers = itertools.count()
    with (
        tempfile.TemporaryDirectory() as folder,
        database(Path(folder) / "data", chosen.database) as store,
        workers(store, infer=1, deliver=1, inference_s=INFERENCE_S) as pids,
    ):
        begun = time.monotonic()
        for look in range(1, LOOKS + 1):
            while time.monotonic() < begun + look * look_s:
                with store.transaction() as session:
                    waiting = sum(depth.waiting for depth in engine.depth(session).values())
                if waiting < MOST_WAITING:
                    for _ in range(MOST_WAITING):
                        send(store, f"soak-{next(numbers)}")
                else:
                    time.sleep(0.05)
            memory.append(sum(memory_mb(pid) for pid in pids))
            tables.append(engine_mb(store))
            if look % (LOOKS // 10) == 0:
                minute = (time.monotonic() - begun) / 60
                print(
                    f"{minute:5.1f} min  {delivered(store):7d} delivered"
                    f"  workers {memory[-1]:6.1f} MB  engine's tables {tables[-1]:6.2f} MB",
                    flush=True,
                )
        through = delivered(store)
    quarter = LOOKS // 4
    growth = {
        name: median(seen[-quarter:]) / median(seen[quarter : 2 * quarter])
        for name, seen in (("memory", memory), ("tables", tables))
    }
    print(f"{through} studies, {through / A_DAY:.1f} days of {A_DAY}; last quarter to second: {growth}")
    is_flat = through > 0 and max(growth.values()) < GROWTH
    print("flat" if is_flat else f"NOT FLAT: the limit is times {GROWTH}")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())

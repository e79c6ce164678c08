"""Audit rows a second that a database takes: ``python -m tests.benchmarks.audit URL [THREADS [SECONDS]]``.

The rows are views of different studies by different people, each in a transaction of its own, as a page
makes them. URL is a migrated PostgreSQL that nobody needs.
"""

import sys
import threading
import time

from service.store import Store, audit, looks
from service.store.migrations import upgrade


def main(url: str, threads: int = 4, seconds: float = 5.0) -> None:
    """Append for some seconds and print the rate and the slowest append."""
    store = Store.open(url)
    upgrade(store)
    slowest, counts = [0.0] * threads, [0] * threads
    ends = time.monotonic() + seconds

    def look(thread: int) -> None:
        while time.monotonic() < ends:
            began = time.monotonic()
            with store.transaction() as session:
                looks.viewed(session, f"{thread:02d}{counts[thread]:018d}", actor=f"reader {thread}")
            slowest[thread] = max(slowest[thread], time.monotonic() - began)
            counts[thread] += 1

    workers = [threading.Thread(target=look, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with store.transaction() as session:
        head = audit.verify(session)
    rate, worst_ms = sum(counts) / seconds, max(slowest) * 1000
    print(f"{rate:.0f} rows/s, slowest {worst_ms:.0f} ms, {head.number} rows verified")
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], *(int(value) for value in sys.argv[2:4]))

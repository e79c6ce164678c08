"""How long a cohort of tiny studies takes to stand in the queue.

``python -m tests.benchmarks.cohort`` writes 30,000 studies of three slices, runs ``vigil screen`` on it with
the embedded database, all roles and their defaults, and prints how long it took until the last was queued,
beside a plain copy of the same files with a sync of each, as a bare receiver does it. It fails above five
minutes. Workers score meanwhile, as they do at a site, on the same processors.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.cohorts import SLICES, Screen, write_cohort
from tests.faults import processes

LIMIT_S = 300.0
COPIED = 1000  # files of the plain copy, from which the whole is told
LOOK_S = 1.0


def copy_s(source: Path, folder: Path, count: int) -> float:
    """Seconds a file takes to be copied and synced, measured on some of them."""
    files = sorted(source.rglob("*.dcm"))[:count]
    begun = time.monotonic()
    for number, path in enumerate(files):
        with path.open("rb") as source_file, (folder / f"{number}.dcm").open("wb") as file:
            shutil.copyfileobj(source_file, file)
            file.flush()
            os.fsync(file.fileno())
    return (time.monotonic() - begun) / len(files)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cohort")
    parser.add_argument("--studies", type=int, default=30_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, plain = folder / "source", folder / "plain"
        write_cohort(source, chosen.studies)
        plain.mkdir()
        before = copy_s(source, plain, COPIED)
        screen = Screen(folder=folder, source=source)
        begun = time.monotonic()
        process = screen.start()
        peak, first = 0, 0.0
        while (queued := screen.queued) < chosen.studies:
            if process.poll() is not None:
                print(screen.log())
                return 1
            first = first or (time.monotonic() - begun if queued else 0.0)
            peak = max(peak, processes.resident_mb(process.pid))
            time.sleep(LOOK_S)
        took = time.monotonic() - begun
        ended = screen.ended
        process.terminate()
        process.wait(timeout=180)
        after = copy_s(source, plain, COPIED)
    copy = (before + after) / 2 * SLICES * chosen.studies
    print(f"{queued} studies of {SLICES} slices in the queue after {took:.0f} s, starting Vigil among it")
    print(f"the first of them after {first:.0f} s, with Vigil started and all headers read")
    print(f"{1000 * took / chosen.studies:.2f} ms a study; {ended} of them had ended by then")
    print(f"copying and syncing the same files: {copy:.0f} s; the ratio is {took / copy:.2f}")
    print(f"memory of the command: {peak} MB at most")
    is_good = took < LIMIT_S or chosen.studies < 30_000
    print("good" if is_good else f"BAD: the limit is {LIMIT_S:.0f} s")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

"""How much of the network's own speed a worker keeps: slices a second, and studies a minute.

``python -m tests.benchmarks.worker`` runs, by turns and several rounds each:

- slices: the shipped network in a bare loop of ONNX Runtime over one batch, beside the batcher with
  ``--studies`` studies that hand over their slices at the same time;
- studies: the whole way from a queued job to stored results with 1, 2 and 4 worker processes on an embedded
  PostgreSQL, beside as many processes that do nothing but run the network on the slices of those studies.

Prints medians and ratios, `--json FILE` keeps the numbers. The folder of made studies is a temporary one.
``--slices-only`` leaves the second part out. Nothing else should run on the machine.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from dicom_node.spool import Spool
from models.batcher import Batcher
from models.catalogue import active_artefact
from models.predictor import Predictor
from models.runner import Feeds
from service import engine
from service.engine import Pool
from service.settings import Settings
from service.store import Store, jobs, studies
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from tests.service.test_studies import NOON, arrival_of
from tests.streamed import write_brain

SLICES, EDGE = 160, 256  # of a made study
LOOP = """
import sys, time, numpy as np
from models.catalogue import active_artefact
from models.predictor import Predictor
predictor = Predictor.load(active_artefact())
feeds = predictor.examples()
predictor.runner.run(feeds)
print("ready", flush=True)
sys.stdin.readline()
begun, runs = time.perf_counter(), 0
while time.perf_counter() - begun < float(sys.argv[1]):
    predictor.runner.run(feeds)
    runs += 1
print(runs * len(feeds["position"]) / (time.perf_counter() - begun), flush=True)
"""


def bare_rate(predictor: Predictor, feeds: Feeds, batches: int) -> float:
    """Slices a second of a loop over one batch."""
    begun = time.perf_counter()
    for _ in range(batches):
        predictor.runner.run(feeds)
    return batches * len(feeds["position"]) / (time.perf_counter() - begun)


def batched_rate(batcher: Batcher, studies_in_hand: list[Feeds], batch: int) -> float:
    """Slices a second of studies that ask at the same time, part by part as a predictor does."""

    def ask(feeds: Feeds) -> int:
        count = len(feeds["position"])
        parts = (
            {name: values[start : start + batch] for name, values in feeds.items()}
            for start in range(0, count, batch)
        )
        with batcher.lane(10) as lane:
            return sum(len(found["elbo"]) for found in lane.run_each(parts))

    begun = time.perf_counter()
    with ThreadPoolExecutor(len(studies_in_hand)) as threads:
        slices = sum(threads.map(ask, studies_in_hand))
    return slices / (time.perf_counter() - begun)


def measure_slices(rounds: int, in_hand: int) -> dict[str, float]:
    """Medians of both, and of their ratio round by round."""
    predictor = Predictor.load(active_artefact())
    feeds = predictor.examples()
    batch = len(feeds["position"])
    repeats = [np.arange(75) % batch for _ in range(in_hand)]  # 75 slices hold a brain
    given = [{name: values[index] for name, values in feeds.items()} for index in repeats]
    batcher = Batcher(predictor.runner, feeds)
    rows = []
    for _ in range(rounds):
        bare = bare_rate(predictor, feeds, batches=in_hand * 75 // batch)
        rows.append((bare, batched_rate(batcher, given, batch)))
    batcher.close()
    return {
        "bare_slices_s": median(bare for bare, _ in rows),
        "worker_slices_s": median(batched for _, batched in rows),
        "ratio": median(batched / bare for bare, batched in rows),
    }


@contextmanager
def database(folder: Path) -> Iterator[Store]:
    """An embedded PostgreSQL as `vigil up` runs it."""
    embedded = EmbeddedDatabase(folder)
    embedded.prepare()
    server = subprocess.Popen(embedded.command(), stderr=subprocess.DEVNULL)
    try:
        embedded.wait_until_ready()
        store = Store.open(embedded.url)
        upgrade(store)
        yield store
        store.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def spool_studies(store: Store, data: Path, count: int) -> list[int]:
    """Made studies in the spool, and the ids of their queued scores; no job yet."""
    settings = Settings(data=data)
    spool = Spool(settings.spool_folder, b"s" * 32, free_mark_bytes=0)
    paths = write_brain(data / "made", SLICES, EDGE)
    contents = [path.read_bytes() for path in paths]
    model, scores = active_artefact().sha256, []
    for number in range(count):
        for index, content in enumerate(contents):
            stored = spool.store(f"2.25.{number + 1}", f"2.25.{number + 1}.{index + 1}", [content])
        found = [arrival_of(one) for one in spool.instances(stored.study_key)]
        with store.transaction() as session:
            studies.register(session, stored.study_key, found)
        with store.transaction() as session:
            revision = studies.complete(session, stored.study_key, completed_by="quiet_period", now=NOON)
            assert revision is not None
            score = jobs.queue(session, revision.id, model_hash=model, config_digest="c", run_at=NOON)
            assert score is not None
            scores.append(score)
    return scores


def pipeline_rate(store: Store, data: Path, scores: list[int], workers: int) -> float:
    """Studies a minute from the moment at which ready workers find them queued to the last result."""
    environment = Settings(data=data, database_url=store.url).environment() | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "service.cli", "worker", "--pool", "infer"]
    processes = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    try:
        for process in processes:
            assert process.stderr is not None
            while "worker ready" not in process.stderr.readline():
                assert process.poll() is None, "a worker did not start"
        begun = time.perf_counter()
        with store.transaction() as session:
            for score in scores:
                engine.enqueue(session, Pool.INFER, score, priority=10)
        while True:
            time.sleep(0.1)
            with store.transaction() as session:
                if not set(jobs.waiting_scores(session)) & set(scores):
                    break
        return 60 * len(scores) / (time.perf_counter() - begun)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def network_rate(processes: int, seconds: float) -> float:
    """Slices a second of so many processes that only run the network."""
    loops = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for _ in range(processes)
    ]
    for loop in loops:
        assert loop.stdout is not None
        loop.stdout.readline()
    with ThreadPoolExecutor(processes) as threads:
        return sum(float(out) for out, _ in threads.map(lambda loop: loop.communicate("go\n"), loops))


def measure_studies(rounds: int, count: int, slices: int) -> list[dict[str, float]]:
    """For each number of processes: the pipeline, the network alone, and their ratio."""
    rows: dict[int, list[tuple[float, float]]] = {1: [], 2: [], 4: []}
    for _ in range(rounds):
        for workers, found in rows.items():
            with tempfile.TemporaryDirectory() as place:
                data = Path(place)
                with database(data) as store:
                    scores = spool_studies(store, data, count)
                    rate = pipeline_rate(store, data, scores, workers)
            found.append((rate, 60 * network_rate(workers, seconds=5) / slices))
    return [
        {
            "workers": workers,
            "studies_min": median(rate for rate, _ in found),
            "network_alone_studies_min": median(alone for _, alone in found),
            "ratio": median(rate / alone for rate, alone in found),
        }
        for workers, found in rows.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--studies", type=int, default=4, help="in hand at a time, in the first part")
    parser.add_argument("--count", type=int, default=12, help="made studies of the second part")
    parser.add_argument("--slices-only", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    result: dict[str, object] = {"slices": measure_slices(asked.rounds, asked.studies)}
    print(json.dumps(result["slices"]))
    if not asked.slices_only:
        result["studies"] = measure_studies(asked.rounds, asked.count, slices=75)
        for row in result["studies"]:  # type: ignore[attr-defined] - rows of the line above
            print(json.dumps(row))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

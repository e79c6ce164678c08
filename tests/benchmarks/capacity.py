"""What one study costs, for ``vigil capacity --costs FILE``.

``python -m tests.benchmarks.capacity --json FILE`` takes studies of 160 slices through intake and worker
on an embedded PostgreSQL: processor time of an instance's rows and of a study, bytes of rows and results.
Nothing else should run on the machine. The receiver is measured by ``tests.benchmarks.ingest``, a device by
``tests.benchmarks.worker``.
"""

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select, text

from dicom_node.peers import Peers
from dicom_node.spool import Spool
from models.catalogue import active_artefact
from models.predictor import Predictor
from service import wiring
from service.meters import Meters, NodeMeters
from service.settings import Settings
from service.store import Store
from service.store.tables import ScoreRow
from tests.benchmarks.worker import EDGE, SLICES, database
from tests.streamed import write_brain

LATER = datetime(2100, 1, 1, tzinfo=UTC)
TINY, FEW = 2, 40  # so many studies of so few instances tell what the rows of a study itself take


def database_bytes(store: Store) -> int:
    """Bytes of all tables and indexes."""
    with store.transaction() as session:
        return int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def take_in(store: Store, settings: Settings, paths: list[Path], first: int, count: int) -> tuple[float, int]:
    """Processor seconds and bytes of the database for so many studies with these instances."""
    spool = Spool(settings.spool_folder, b"s" * 32, free_mark_bytes=0)
    contents = [path.read_bytes() for path in paths]
    for number in range(first, first + count):
        for index, content in enumerate(contents):
            spool.store(f"2.25.{number + 1}", f"2.25.{number + 1}.{index + 1}", [content])
    intake = wiring.open_intake(settings, store, spool, Peers(), NodeMeters(settings))
    before, begun = database_bytes(store), time.process_time()
    intake.step(LATER)
    return time.process_time() - begun, database_bytes(store) - before


def measure(count: int) -> dict[str, float]:
    """Costs by their names."""
    with tempfile.TemporaryDirectory() as place, database(Path(place)) as store:
        settings = Settings(data=Path(place), database_url=store.url)
        paths = write_brain(Path(place) / "made", SLICES, EDGE)
        seconds, whole = take_in(store, settings, paths, 0, count)
        _, tiny = take_in(store, settings, paths[:TINY], count, FEW)
        instance_bytes = (whole / count - tiny / FEW) / (SLICES - TINY)
        meters = Meters()
        serving = wiring.open_serving(settings, meters)
        triage = wiring.open_triage(settings, store, serving, meters)
        with store.transaction() as session:
            scores = session.scalars(select(ScoreRow.id).order_by(ScoreRow.id).limit(count)).all()
        begun = time.process_time()
        for score in scores:
            triage.run(score)
        spent_s = time.process_time() - begun
        serving.close()
        kept = sum(path.stat().st_size for path in settings.results_folder.rglob("*") if path.is_file())
        samples = meters.registry.get_sample_value("vigil_inference_samples_total") or 0.0
        network_s = samples * sample_s()
    return {
        "register_ms": 1000 * seconds / count / SLICES,
        "work_s": (spent_s - network_s) / count,
        "samples": samples / count,
        "results_mb": kept / count / 1e6,
        "database_instance_kb": instance_bytes / 1000,
    }


def sample_s(batches: int = 20) -> float:
    """Processor seconds of the network alone for one sample."""
    predictor = Predictor.load(active_artefact())
    feeds = predictor.examples()
    begun = time.process_time()
    for _ in range(batches):
        predictor.runner.run(feeds)
    return (time.process_time() - begun) / batches / len(feeds["position"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=4, help="studies of 160 slices")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {name: round(value, 3) for name, value in measure(asked.count).items()}
    print(json.dumps(found))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

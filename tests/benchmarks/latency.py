"""From the last instance of an MR study to its place in the list, and to its results at the archive.

``python -m tests.benchmarks.latency`` starts ``vigil up`` on a folder of its own, sends made studies of 160
instances one after another by C-STORE, waits for each, and reads the times that Vigil wrote down. The quiet
period is taken off: it is a choice, not a cost. Prints p50 and p95 in seconds; `--json FILE` keeps them.
Nothing else should run on the machine.
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
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from sqlalchemy import select

from dicom_node.scu import send_files
from service.roles import free_port
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from tests.fakes import archive
from tests.streamed import write_brain

QUIET_S = 1.0
SLICES, EDGE = 160, 256
RESULTS = {  # SEG, secondary captures, report
    "1.2.840.10008.5.1.4.1.1.66.4": ExplicitVRLittleEndian,
    "1.2.840.10008.5.1.4.1.1.7.4": RLELossless,
    "1.2.840.10008.5.1.4.1.1.88.34": ExplicitVRLittleEndian,
}


@contextmanager
def running(folder: Path, archive_port: int) -> Iterator[tuple[int, Store]]:
    """``vigil up`` on one folder: port of its node, and its database."""
    port, api_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    peers = folder / "peers.yaml"
    peers.write_text(
        "peers:\n"
        "  - {name: scanner, aet: SCANNER, host: 127.0.0.1, roles: [sender]}\n"
        f"  - {{name: pacs, aet: ARCHIVE, host: 127.0.0.1, port: {archive_port}, roles: [destination]}}\n"
    )
    command = [sys.executable, "-m", "service.cli", "up", "--data", str(folder), "--peers", str(peers)]
    environment = os.environ | {
        "VIGIL_ACCESS": "open",
        "VIGIL_QUIET_S": str(QUIET_S),
        "VIGIL_LOG_MB": "64",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--api-port", str(api_port)], env=environment, stderr=log
        )
    store = Store.open(EmbeddedDatabase(folder).url)
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(f"http://127.0.0.1:{api_port}/readyz"):
            assert process.poll() is None, (folder / "up.log").read_text()
            assert time.monotonic() < deadline, "Vigil did not start"
            time.sleep(0.2)
        yield port, store
    finally:
        store.close()
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def wait_for(store: Store, studies: int) -> list[tuple[float, float]]:
    """Seconds to *ranked* and to *delivered* of every study, once so many have got there."""
    deadline = time.monotonic() + 180
    while True:
        with store.transaction() as session:
            rows = session.execute(
                select(StudyRow.id, StudyRow.last_instance_at, ScoreRow.ended_at, DeliveryRow.ended_at)
                .join(RevisionRow, RevisionRow.study_id == StudyRow.id)
                .join(ScoreRow, ScoreRow.revision_id == RevisionRow.id)
                .join(ResultRow, ResultRow.score_id == ScoreRow.id)
                .join(DeliveryRow, DeliveryRow.result_id == ResultRow.id)
                .order_by(StudyRow.id)
            ).all()
        if len({row[0] for row in rows}) == studies and all(row[3] for row in rows):
            break
        assert time.monotonic() < deadline, "a study did not arrive"
        time.sleep(0.1)
    took: dict[int, tuple[float, float]] = {}
    for study, last, scored, delivered in rows:
        ranked = (scored - last).total_seconds() - QUIET_S
        arrived = (delivered - last).total_seconds() - QUIET_S
        took[study] = (ranked, max(arrived, took.get(study, (0.0, 0.0))[1]))
    return list(took.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        contexts = [(sop_class, (str(syntax),)) for sop_class, syntax in RESULTS.items()]
        (folder / "archive").mkdir()
        with archive(folder / "archive", contexts=contexts) as there, running(folder, there.port) as at:
            port, store = at
            for number in range(asked.studies + 1):  # the first one warms caches and is left out
                paths = write_brain(folder / f"study{number}", SLICES, EDGE, name=f"study{number}")
                sent = list(
                    send_files(paths, host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL")
                )
                assert all(receipt.is_stored for receipt in sent)
                took = wait_for(store, number + 1)[1:]
    ranked, delivered = np.array(took).T
    result = {
        name: {"p50_s": float(np.percentile(values, 50)), "p95_s": float(np.percentile(values, 95))}
        for name, values in (("ranked", ranked), ("delivered", delivered))
    }
    print(json.dumps({"studies": len(took), **result}))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

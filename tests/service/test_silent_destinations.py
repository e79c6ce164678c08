"""Three destinations that accept a connection and never answer, and one that works."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage
from sqlalchemy import func, select, update

from service import engine
from service.engine import Pool
from service.store import Store
from service.store.tables import DeliveryRow, ResultRow
from service.study import DeliveryStatus
from tests.fakes import archive
from tests.seeds import Seed, plant, write_capture

pytestmark = pytest.mark.postgres

STUDIES = 12
SILENT = ("silent-1", "silent-2", "silent-3")
SOON_S = 90.0
SILENCE_S = 300.0  # a silent destination holds a place for so long


@pytest.fixture
def silent_ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in SILENT]
        yield [listener.getsockname()[1] for listener in listeners]


def _plant(store: Store, data: Path) -> None:
    """Write studies with one picture each, waiting for every destination; the silent ones come first."""
    waiting = dict.fromkeys((*SILENT, "good"), DeliveryStatus.WAITING)
    with store.transaction() as session:
        for number in range(STUDIES):
            seed = Seed(name=f"study {number}", results={"sc": waiting})
            plant(session, seed)
            capture = np.full((1, 8, 8, 3), number, np.uint8)
            file = data / "results" / seed.key / "sc.dcm"
            write_capture(file, capture)
            content = file.read_bytes()
            session.execute(
                update(ResultRow)
                .where(ResultRow.path == f"{seed.key}/sc.dcm")
                .values(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            )
        rows = session.execute(
            select(DeliveryRow.id).order_by(DeliveryRow.destination == "good", DeliveryRow.id)
        )
        for (delivery_id,) in rows.all():
            engine.enqueue(session, Pool.DELIVER, delivery_id, priority=10)


def test_silent_destinations_do_not_delay_a_good_one(
    store: Store, tmp_path: Path, silent_ports: list[int]
) -> None:
    data = tmp_path / "data"
    _plant(store, data)
    contexts = [(MultiFrameTrueColorSecondaryCaptureImageStorage, (ExplicitVRLittleEndian,))]
    with archive(tmp_path, contexts=contexts) as good:
        ports = [*zip(SILENT, silent_ports, strict=True), ("good", good.port)]
        lines = [
            f"  - {{name: {name}, aet: ARCHIVE, host: 127.0.0.1, port: {port}, roles: [destination],"
            f" timeouts: {{association_s: {SILENCE_S}}}}}"
            for name, port in ports
        ]
        (data / "peers.yaml").write_text("\n".join(["peers:", *lines]))
        environment = {**os.environ, "VIGIL_DATA": str(data), "VIGIL_DATABASE_URL": store.url}
        worker = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "worker", "--pool", "deliver"],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + SOON_S
            while not good.received and time.monotonic() < deadline:
                time.sleep(0.05)
            begun = time.monotonic()
            while len(good.received) < STUDIES and time.monotonic() < begun + SOON_S:
                time.sleep(0.05)
        finally:
            worker.kill()
            worker.wait()

    assert len(good.received) == STUDIES
    with store.transaction() as session:
        delivered = dict(
            session.execute(
                select(DeliveryRow.destination, func.count())
                .where(DeliveryRow.status == DeliveryStatus.DELIVERED)
                .group_by(DeliveryRow.destination)
            ).all()
        )
    assert set(delivered) == {"good"}

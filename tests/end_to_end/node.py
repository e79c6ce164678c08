"""A whole node process alone, started as an operator starts it."""

import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.line import Line
from dicom_node.scu import send_files, verify
from tests.phantoms import mr_image, write

AET = "VIGIL"
READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Node:
    """A running ``vigil node --standalone``."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path

    @property
    def entity(self) -> Line:
        return Line(host="127.0.0.1", port=self.port, calling_aet="SCANNER", called_aet=AET)

    def connect(self, *, source: str = "127.0.0.1") -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(source, 0))
        opened.settimeout(30)
        return opened

    def family(self) -> list[int]:
        """Process ids of the node and what it forked."""
        found = [self.process.pid]
        for pid in found:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return list(dict.fromkeys(found))

    def resident_mb(self) -> float:
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.family()]
        return sum(pages) * resource.getpagesize() / 2**20

    def threads(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.family())

    def descriptors(self) -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.family())

    def unfinished(self) -> list[Path]:
        return [path for path in self.data.rglob("*.part") if path.is_file()]

    def is_well(self, folder: Path) -> None:
        """Assert that a good sender is served: C-ECHO, and an instance stored."""
        verify(self.entity)
        image = write(folder, [mr_image("good sender", 1, np.full((64, 64), 7, np.uint16))])
        (receipt,) = send_files(
            image, host="127.0.0.1", port=self.port, calling_aet="SCANNER", called_aet=AET
        )
        assert receipt.is_stored


@contextmanager
def running_node(data: Path, *, prefix: tuple[str, ...] = (), **settings: object) -> Iterator[Node]:
    """Node on a free port; its lines stand in ``node.log`` beside the data folder."""
    command = ["-m", "service.cli", "node", "--standalone", "--port", "0", "--aet", AET, "--data", str(data)]
    log = data.parent / "node.log"
    with log.open("wb") as file:
        environment = os.environ | {name: str(value) for name, value in settings.items()}
        process = subprocess.Popen([*prefix, sys.executable, *command], stderr=file, env=environment)
    try:
        deadline = time.monotonic() + READY_S
        while not (ready := re.search(r"ready: \S+ on \S+:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the node does not get ready"
            time.sleep(0.05)
        yield Node(process, int(ready[1]), data)
    finally:
        process.terminate()
        process.wait(timeout=90)

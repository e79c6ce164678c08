"""Folders of thousands of tiny studies, and ``vigil screen`` as an operator runs it."""

import hashlib
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from sqlalchemy import text

from dicom_node.part10 import file_head
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from tests.benchmarks.studies import uid
from tests.faults import processes
from tests.phantoms import Phantom
from tests.picture_models import write_artefact

ROOT = Path(__file__).resolve().parent.parent
SLICES = 3
SIDE = 16  # pixels
FOLDERS = 1000  # studies in one folder at most


@cache
def _templates() -> tuple[tuple[bytes, int], ...]:
    """Data set of each slice, and where its pixels begin."""
    made = []
    phantom = Phantom(shape=(SLICES, SIDE, SIDE), bright=(0, 7, 4), name="cohort")
    for number, image in enumerate(phantom.datasets()):
        image.StudyInstanceUID, image.SeriesInstanceUID = uid("study"), uid("series")
        image.SOPInstanceUID, image.PatientID = uid("instance", number), "0" * 16
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = False, True
        write_dataset(buffer, image)
        data = buffer.getvalue()
        made.append((data, len(data) - SIDE * SIDE * 2))
    return tuple(made)


def write_cohort(folder: Path, count: int, *, name: str = "c") -> None:
    """Write `count` studies of `SLICES` slices, each of its own patient and with its own pixels."""
    rng = np.random.default_rng(7)
    for study in range(count):
        below = folder / f"{study // FOLDERS:03d}" / f"{study:06d}"
        below.mkdir(parents=True)
        bright = rng.integers(100, 1000, SLICES, np.uint16)
        patient = hashlib.sha256(f"{name} {study}".encode()).hexdigest()[:16].encode()
        for number, (data, cut) in enumerate(_templates()):
            sop = uid(name, study, number)
            head = data[:cut].replace(uid("study").encode(), uid(name, study, "study").encode())
            head = head.replace(uid("series").encode(), uid(name, study, "series").encode())
            head = head.replace(uid("instance", number).encode(), sop.encode()).replace(b"0" * 16, patient)
            pixels = np.full(SIDE * SIDE, 100, np.uint16)
            pixels[study % pixels.size] = bright[number]
            meta = file_head(
                sop_class=MRImageStorage, sop_instance=sop, syntax=ExplicitVRLittleEndian, sender="COHORT"
            )
            (below / f"{number}.dcm").write_bytes(meta + head + pixels.tobytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """``vigil screen`` on a folder of its own, with the tiny model.

    Attributes
    ----------
    folder : Path
        Below it everything is kept.
    source : Path
    """

    folder: Path
    source: Path

    @property
    def data(self) -> Path:
        return self.folder / "vigil"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def url(self) -> str:
        return EmbeddedDatabase(self.data).url

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        artefact = self.folder / "artefact"
        if not artefact.exists():
            write_artefact(artefact)
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "VIGIL_DATA": str(self.data),
            "VIGIL_MODEL": str(artefact),
            "VIGIL_ACCESS": "open",
            "VIGIL_PORT": "0",
            "VIGIL_API_PORT": "0",
            "VIGIL_STALLED_S": "6",
            "VIGIL_FREE_MARK_MB": "64",
            "VIGIL_LOG_MB": "64",
            "VIGIL_INFER_ATTEMPTS": "1000",  # the kills are no study's fault
        }
        with (self.folder / "screen.log").open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable, "-m", "service.cli", "screen", str(self.source), "--out", str(self.out),
                    "--pictures", "4", "--json",
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def log(self) -> str:
        return (self.folder / "screen.log").read_text()[-3000:]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill -9 the command, and wait until the roles it started have ended, too."""
        members = processes.family(process.pid)
        process.kill()
        process.wait(timeout=30)
        left = processes.wait_until_gone(members, 60.0)
        processes.kill(left)

    def role(self, process: subprocess.Popen[bytes], *words: str) -> int | None:
        """Process id of a role, by the end of its command line."""
        for pid in processes.children(process.pid):
            line = processes.command_line(pid)
            if line[-len(words) :] == list(words) and "service.cli" in line:
                return pid
        return None

    def count(self, query: str) -> int:
        """Answer of the database; 0 while there is none."""
        store = Store.open(self.url)
        with closing(store):
            try:
                with store.transaction() as session:
                    return int(session.scalar(text(query)) or 0)
            except Exception:  # noqa: BLE001 - not there yet, or away
                return 0

    @property
    def queued(self) -> int:
        """Members that the intake has taken."""
        return self.count("SELECT count(*) FROM vigil.cohort_study WHERE state = 'taken'")

    @property
    def ended(self) -> int:
        """Studies that have ended."""
        return self.count("SELECT count(*) FROM vigil.study WHERE ended_at IS NOT NULL")

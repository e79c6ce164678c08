"""Made studies for the ingest benchmark, and a sender that costs next to nothing."""

import hashlib
import multiprocessing
import time
from dataclasses import dataclass
from functools import cache
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.caller import Caller
from dicom_node.line import Line
from dicom_node.part10 import file_head
from tests.phantoms import mr_image

# name: SOP class, rows, columns, instances
SETS = {
    "mr": ("1.2.840.10008.5.1.4.1.1.4", 256, 256, 160),
    "ct": ("1.2.840.10008.5.1.4.1.1.2", 512, 512, 300),
    "tiny": ("1.2.840.10008.5.1.4.1.1.2", 64, 72, 1000),
    "cr": ("1.2.840.10008.5.1.4.1.1.1", 2500, 2048, 20),
}
UID_LENGTH = 40


@dataclass(frozen=True)
class Sent:
    """What one sender saw."""

    begun: float
    ended: float
    cpu_s: float
    answered_ms: list[float]
    confirmed: int
    error: str | None


def uid(*parts: object) -> str:
    """UID of one length, so that a data set can be made from another by putting it in place."""
    number = int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest(), 16)
    return f"2.25.1{number % 10**34:034d}"


@cache
def _template(name: str) -> tuple[bytes, bytes, str]:
    """Bytes before the pixels, the pixels, and the SOP instance UID that stands in the former."""
    sop_class, rows, columns, _ = SETS[name]
    pixels = np.random.default_rng(7).integers(0, 4096, (rows, columns), np.uint16)
    image: Dataset = mr_image("benchmark", 0, pixels)
    image.SOPClassUID = sop_class
    image.SOPInstanceUID, image.StudyInstanceUID = uid(name, "instance"), uid(name, "study")
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, image)
    whole = buffer.getvalue()
    cut = len(whole) - image["PixelData"].VM * rows * columns * 2
    return whole[:cut], whole[cut:], image.SOPInstanceUID


def instance(name: str, study: int, number: int) -> tuple[str, bytes]:
    """SOP instance UID and data set of one instance."""
    head, pixels, known = _template(name)
    sop = uid(name, study, number)
    of_study = head.replace(uid(name, "study").encode(), uid(name, "study", study).encode())
    mark = hashlib.sha256(sop.encode()).digest()  # no two have the same pixels
    return sop, of_study.replace(known.encode(), sop.encode()) + mark + pixels[len(mark) :]


def write_study(folder: Path, name: str) -> list[Path]:
    """Write a study as Part 10 files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(SETS[name][3]):
        sop, data = instance(name, 0, number)
        head = file_head(
            sop_class=SETS[name][0], sop_instance=sop, syntax=ExplicitVRLittleEndian, sender="BENCHSCU"
        )
        paths.append(folder / f"{number:04d}.dcm")
        paths[-1].write_bytes(head + data)
    return paths


def send_studies(entity: Line, name: str, associations: int, *, passes: int = 1) -> list[Sent]:
    """Send one study per association at the same moment, each from a process of its own."""
    context = multiprocessing.get_context("fork")
    ready, go, out = context.Semaphore(0), context.Event(), context.Queue()
    senders = [
        context.Process(target=_send, args=(entity, name, study, passes, ready, go, out))
        for study in range(associations)
    ]
    for sender in senders:
        sender.start()
    for _ in senders:
        ready.acquire()
    go.set()
    results = [out.get(timeout=600) for _ in senders]
    for sender in senders:
        sender.join()
    return results


def _send(
    entity: Line, name: str, study: int, passes: int, ready: Semaphore, go: Event, out: "Queue[Sent]"
) -> None:
    sop_class, _, _, count = SETS[name]
    instances = [instance(name, study, number) for number in range(count)]
    ready.release()
    go.wait()
    answered: list[float] = []
    error = None
    cpu, begun = time.process_time(), time.perf_counter()
    try:
        with Caller.call(entity, {(sop_class, str(ExplicitVRLittleEndian))}) as caller:
            (context_id,) = caller.accepted.values()
            for _ in range(passes):
                for sop, data in instances:
                    asked = time.perf_counter()
                    status = caller.store_bytes(
                        data, context_id=context_id, sop_class=sop_class, sop_instance=sop
                    )
                    answered.append((time.perf_counter() - asked) * 1e3)
                    if status:
                        error = f"status 0x{status:04X}"
    except OSError as problem:
        error = type(problem).__name__
    out.put(Sent(begun, time.perf_counter(), time.process_time() - cpu, answered, len(answered), error))

"""Scores one long series in this process and says what memory that took; see `test_scratch`.

``python -m tests.streamed FOLDER SLICES EDGE MEMORY_MB LIMIT_MB`` writes a brain of SLICES x EDGE x EDGE
voxels as DICOM files, allows the process LIMIT_MB of memory of its own beyond what it has after its start
(RLIMIT_DATA: files that are mapped do not count), and prints one line of JSON.
"""

import json
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from dicom_node.reader import read_headers
from dicom_node.results import ResultContext, build_results, encode
from models.catalogue import active_artefact
from models.predictor import Predictor
from models.scratch import IN_MEMORY, Scratch
from service.selection import judge
from service.triage import VOXEL_BYTES
from tests.phantoms import mr_image

MB = 1024 * 1024
BRAIN_MM = np.array([140.0, 170.0, 135.0])  # columns, rows, slices


def write_brain(folder: Path, slices: int, edge: int, *, name: str = "long") -> list[Path]:
    """An ellipsoid of two tissues and a bright ball, one file a slice."""
    folder.mkdir(parents=True, exist_ok=True)
    step = np.array([190.0 / edge, 190.0 / edge, 150.0 / slices])
    place = (np.arange(edge) - (edge - 1) / 2) * step[0]
    x, y = np.meshgrid(place, place)
    noise = np.random.default_rng(0).normal(0, 6, (edge, edge))
    paths = []
    for index in range(slices):
        z = (index - (slices - 1) / 2) * step[2]
        radius = (x / BRAIN_MM[0] * 2) ** 2 + (y / BRAIN_MM[1] * 2) ** 2 + (z / BRAIN_MM[2] * 2) ** 2
        values = np.where(radius < 0.6, 170.0, 115.0) + np.roll(noise, index, axis=0)
        values = np.where((x - 20) ** 2 + y**2 + z**2 < 8**2, 400.0, values)
        image: FileDataset = mr_image(name, index, np.where(radius < 1, values, 0).astype(np.uint16))
        image.ImagePositionPatient = [float(place[0]), float(place[0]), float(z)]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [step[1], step[0]], float(step[2])
        paths.append(folder / f"{index:05d}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    return paths


def own_mb(field: str) -> float:
    """Memory of this process alone: ``RssAnon``, or ``VmData``, which the limit is about."""
    with Path("/proc/self/status").open() as status:
        (line,) = (line for line in status if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def main(folder: Path, slices: int, edge: int, memory_mb: int, limit_mb: int) -> None:
    """Write, limit, score, print."""
    paths = sorted((folder / "study").glob("*.dcm")) or write_brain(folder / "study", slices, edge)
    predictor = Predictor.load(active_artefact())
    start = own_mb("VmData")
    if limit_mb:
        most = int((start + limit_mb) * MB)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    def reserve(voxels: int) -> Scratch:
        return Scratch(folder / "scratch") if voxels * VOXEL_BYTES > memory_mb * MB else IN_MEMORY

    begun = time.perf_counter()
    verdict = judge(paths, predictor, max_voxels=1 << 40, reserve=reserve)
    scored = time.perf_counter()
    assert verdict.series is not None
    assert verdict.scores is not None, verdict.detail
    results = build_results(
        ResultContext(
            sources=read_headers(verdict.series),
            volume=verdict.volume,
            scores=verdict.scores,
            reason=None,
            detail="",
            model=predictor.identity,
            config_digest="c" * 64,
            content_hash="d" * 64,
            run_at=datetime(2026, 1, 1, tzinfo=UTC),
            software_version="1",
            predecessor_sr=None,
        )
    )
    import hashlib

    found = {result.kind: hashlib.sha256(encode(result.dataset)).hexdigest() for result in results}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(  # noqa: T201 - what it is for
        json.dumps(
            {
                "study_score": verdict.scores.study_score,
                "results": found,
                "is_on_disk": verdict.volume is not None and verdict.volume.scratch.folder is not None,
                "start_mb": start,
                "anonymous_end_mb": own_mb("RssAnon"),
                "peak_rss_with_mapped_files_mb": peak,
                "score_s": scored - begun,
                "build_s": time.perf_counter() - scored,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

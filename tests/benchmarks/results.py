"""Seconds that the result objects of one head of common size take on one core.

``python -m tests.benchmarks.results`` prints the median of a few rounds per kind, with the bytes of the file,
and the sum over the kinds that are built by default. Encoding counts: a result is done when it is bytes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from dicom_node.kinds import DEFAULT_KINDS, ResultKind
from dicom_node.results import RESULT_BUILDERS, ResultContext, encode
from models.aggregation import find_regions
from models.scores import ModelIdentity, Scores
from models.volume import Volume
from tests.phantoms import Phantom

SHAPE = (150, 256, 256)
BANDS = (0.3, 0.5, 0.8)
LIMIT_S = 1.5


def head(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A head of noise and its map: a fifth of the slices reach a band, as with a lesion of 2 cm."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    inside = (places**2).sum(axis=0) < 0.8
    voxels = np.where(inside, rng.normal(600, 100, SHAPE), rng.exponential(5, SHAPE)).astype(np.float32)
    lesion = np.exp(-(((places - 0.2) ** 2).sum(axis=0)) / 0.02)
    values = np.where(inside, 0.9 * lesion + rng.random(SHAPE) * 0.1, 0).astype(np.float32)
    return voxels, values


def example() -> ResultContext:
    """Scored context of the head."""
    rng = np.random.default_rng(0)
    voxels, values = head(rng)
    phantom = Phantom(shape=SHAPE, spacing_mm=(1.2, 1.0, 1.0), bright=(75, 100, 100))
    volume = Volume(voxels=voxels, spacing_mm=phantom.spacing_mm, affine=np.diag([1.2, 1.0, 1.0, 1.0]))
    model = ModelIdentity(
        name="benchmark",
        version="1.0.0",
        sha256="ab" * 32,
        calibration_sha256="cd" * 32,
        calibrated_on=date(2026, 1, 1),
        group="noise",
        n=100,
        disclaimer="For measurement.",
    )
    sources = phantom.datasets()
    for source in sources:
        del source.PixelData
    return ResultContext(
        sources=sources,
        volume=volume,
        scores=Scores(
            study_score=1.0,
            p_value=0.05,
            heads={"noise": 1.0},
            map=values,
            bands=BANDS,
            regions=find_regions(
                values, BANDS[0], affine=volume.affine, voxel_mm3=volume.voxel_mm3, min_mm3=30.0
            ),
            model=model,
        ),
        reason=None,
        detail="",
        model=model,
        config_digest="c0" * 32,
        content_hash="f1" * 32,
        run_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        software_version="0",
        predecessor_sr=None,
        kinds=frozenset(ResultKind),
    )


def measure(context: ResultContext, kinds: Sequence[ResultKind], rounds: int) -> dict[str, tuple[float, int]]:
    """Median seconds and bytes of each kind that the context gives."""
    found: dict[str, tuple[float, int]] = {}
    for kind in kinds:
        seconds, size = [], 0
        for _ in range(rounds):
            start = time.process_time()
            made = RESULT_BUILDERS[kind](context)
            size = 0 if made is None else len(encode(made))
            seconds.append(time.process_time() - start)
        if size:
            found[kind.value] = (statistics.median(seconds), size)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(example(), list(ResultKind), options.rounds)
    total = sum(seconds for kind, (seconds, _) in found.items() if kind in DEFAULT_KINDS)
    if options.json:
        print(json.dumps({"kinds": found, "default_s": total, "limit_s": LIMIT_S}))
        return
    for kind, (seconds, size) in found.items():
        print(f"{kind:15} {seconds:7.3f} s {size / 1e6:8.2f} MB")
    print(f"{'default kinds':15} {total:7.3f} s, limit {LIMIT_S} s")


if __name__ == "__main__":
    main()

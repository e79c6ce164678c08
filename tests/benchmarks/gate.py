"""Every odd and hostile DICOM file through reader, gate and predictors: a score or a coded reason.

``python -m tests.benchmarks.gate --data FOLDER`` prints a row a folder and a column a model: the shipped one,
and for each modality one of pictures that takes all it can, so that what is odd also meets a network. Asking
for more memory than ``--memory-mb`` is a crash; the exit code is 1 where anything ended silently.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artefact import SeriesRules, load_artefact, write_manifest
from models.catalogue import active_artefact
from models.predictor import AnyPredictor, load_predictor
from service.selection import judge
from tests.picture_models import manifest, write_artefact

MODALITIES = ("CT", "MR", "DX")
MAX_VOXELS = 2**26
SCORED = "scored"
SILENT = "SILENT"  # A score that is no number, or a study that has neither score nor reason.


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one file or series ended with one model."""

    folder: str
    model: str
    ending: str
    seconds: float


def greedy(modality: str, folder: Path) -> AnyPredictor:
    """A model of pictures that takes everything of a modality."""
    made = write_artefact(folder / modality)
    rules = SeriesRules(
        modality=modality, body_parts=(), age_years=(0, 130), accepts_contrast=True, accepts_lossy=True
    )
    write_manifest(made, manifest(applicability=rules))
    return load_predictor(load_artefact(made), providers=("CPUExecutionProvider",))


def inputs(data: Path) -> Iterator[tuple[str, list[Path]]]:
    """Every file alone, and every folder of ``series`` as a study."""
    files = sorted(path for path in data.rglob("*") if path.is_file() and path.suffix not in {".csv", ".md"})
    for path in files:
        yield "/".join(path.relative_to(data).parts[:2][: len(path.relative_to(data).parts) - 1]), [path]
    for folder in sorted({path.parent for path in files if path.is_relative_to(data / "series")}):
        name = "/".join(folder.relative_to(data / "series").parts)
        yield f"series, whole: {name}", [path for path in files if path.parent == folder]


def endings(data: Path, predictors: dict[str, AnyPredictor]) -> Iterator[Ending]:
    """How everything ends; an exception is a crash and is not caught."""
    for folder, paths in inputs(data):
        for model, predictor in predictors.items():
            begun = time.perf_counter()
            verdict = judge(paths, predictor, max_voxels=MAX_VOXELS)
            scores = verdict.scores
            if scores is None:
                ending = verdict.reason.value if verdict.reason and verdict.detail else SILENT
            else:
                is_number = np.isfinite(scores.study_score) and 0 < scores.p_value <= 1
                ending = SCORED if is_number and np.isfinite(scores.map).all() else SILENT
            yield Ending(folder=folder, model=model, ending=ending, seconds=time.perf_counter() - begun)


def all_predictors(folder: Path) -> dict[str, AnyPredictor]:
    """The shipped model and the greedy ones."""
    shipped = active_artefact()
    made = {f"{shipped.manifest.name} {shipped.manifest.version}": load_predictor(shipped)}
    return made | {f"any {modality}": greedy(modality, folder) for modality in MODALITIES}


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="The folder dicom.")
    parser.add_argument("--memory-mb", type=int, default=1024, help="Of data of this process, at most.")
    given = parser.parse_args()
    most = given.memory_mb << 20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    counted: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    total: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for found in endings(given.data, all_predictors(Path(folder))):
            counted[found.folder][found.model][found.ending] += 1
            total[found.ending] += 1
            slowest = max(slowest, found.seconds)
    for name, models in counted.items():
        print(name)
        for model, ended in models.items():
            print(f"  {model}: " + ", ".join(f"{ending} {count}" for ending, count in ended.most_common()))
    print("all: " + ", ".join(f"{ending} {count}" for ending, count in total.most_common()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"crashes 0, silent {total[SILENT]}, slowest {slowest:.1f} s, peak memory {peak} MiB")
    sys.exit(1 if total[SILENT] else 0)


if __name__ == "__main__":
    main()

"""The fixed protocol for models of pictures: artefacts on a data folder, as rows.

Every part of the folder but ``train`` is scored. Labels rank; nothing is chosen by them, save where a
metric's name says optimistic. Rows that need no model stand beside the model's, and synthetic anomalies
say what a model can see where no label does.
"""

import resource
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from models.artefact import CALIBRATION, PictureArtefact, load_artefact
from models.calibration import read_calibration
from models.errors import ArtefactError
from models.evaluation.gallery import Case, cases_of
from models.evaluation.picture_baselines import Scorer, StudyScore, baselines, constant, intensity
from models.evaluation.picture_report import write_picture_report
from models.evaluation.picture_rows import Rowing, rows_of_part
from models.evaluation.picture_tables import MEAN, NO_MODEL, SPREAD
from models.evaluation.reconstruction import reconstruction_rows
from models.evaluation.rows import Row
from models.evaluation.scoring import Scored, of_finding, score
from models.evaluation.synthetic import Sweeps, synthetic_rows
from models.images.collection import Collection, read_collection
from models.images.contract import ImageContract
from models.images.picture import Picture
from models.images.predictor import PicturePredictor
from models.images.tables import VolumeReader

DRAWS = 1000

__all__ = ["evaluate_pictures", "summarise_seeds", "write_picture_report"]


@dataclass(slots=True, kw_only=True)
class _Found:
    """What an evaluation gathers on its way."""

    rows: list[Row] = field(default_factory=list)
    scores: list[dict[str, object]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)


def evaluate_pictures(
    artefacts: Sequence[Path],
    data: Path,
    seed: int,
    task: str | None = None,
    *,
    draws: int = DRAWS,
    amount: Sweeps | None = None,
    read_folder: VolumeReader | None = None,
) -> dict[str, object]:
    """Measure artefacts on every part of a data folder but ``train``.

    Parameters
    ----------
    artefacts : sequence of Path
        Artefact folders; several seeds of one record give rows of their mean and spread.
    data : Path
        Folder described by ``models/records/data/<folder>.yaml`` or its own manifest.
    seed : int
        Of synthetic anomalies and intervals.
    task : str, optional
        For sets of classes: ``boots`` or ``odd-<class>``.
    draws : int
        Of the bootstrap.
    amount : Sweeps, optional
        How many synthetic anomalies are made.
    read_folder : callable, optional
        Opens a row of a manifest whose file is a folder, such as a DICOM series.

    Returns
    -------
    dict
        ``data``, ``task``, ``artefact``, ``model_hash``, ``seed``, ``seeds``, ``peak_memory_mib``,
        ``rows`` (see `models.evaluation.rows.Row`), ``scores`` (what curves are drawn of), ``cases``
        (pictures for the heatmap sheet; they are parts of the data and fall under its licence). Rows that
        need no model are those of the first artefact's preparation.

    Raises
    ------
    ArtefactError
        If an artefact is incomplete, changed, or not of pictures.
    DatasetError
        If the data folder is not what its description says.
    """
    loaded = [_load(path) for path in artefacts]
    read = partial(_read, data, task, read_folder)
    found = _Found()
    collection: Collection | None = None
    for artefact in loaded:
        if collection is None:
            collection = read(artefact.manifest.input)
            for name, scorer in baselines(collection).items():
                _measure(collection, scorer, (NO_MODEL, name, seed, draws), found)
        elif collection.contract != artefact.manifest.input:
            collection = read(artefact.manifest.input)
        _evaluate_one(artefact, collection, seed, draws, amount or Sweeps(), found)
    rows = [*found.rows, *summarise_seeds(found.rows)]
    return {
        "data": data.resolve().name,
        "task": task,
        "artefact": ", ".join(dict.fromkeys(f"{a.manifest.name}-{a.manifest.version}" for a in loaded)),
        "method": ", ".join(dict.fromkeys(a.manifest.method for a in loaded)),
        "model_hash": ", ".join(artefact.sha256 for artefact in loaded),
        "seed": seed,
        "seeds": [artefact.manifest.training.seed for artefact in loaded],
        "peak_memory_mib": _peak_memory_mib(),
        "rows": [row.as_dict() for row in rows],
        "scores": found.scores,
        "cases": [case.as_dict() for case in found.cases],
    }


def summarise_seeds(rows: Sequence[Row]) -> list[Row]:
    """Mean and standard deviation over artefacts of every number that at least two of them have.

    The interval of a mean is the lowest and highest seed. Rows that need no model have no seed.
    """
    gathered: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.artefact != NO_MODEL:
            gathered[row.split, row.finding, row.metric].append(row)
    made = []
    for same in gathered.values():
        values = np.array([row.value for row in same])
        if len(values) > 1:
            mean, spread = float(values.mean()), float(values.std(ddof=1))
            low, high = float(values.min()), float(values.max())
            made.append(replace(same[0], artefact=MEAN, value=mean, low=low, high=high))
            made.append(replace(same[0], artefact=SPREAD, value=spread, low=None, high=None))
    return made


def groups_of(collection: Collection, pictures: Sequence[Picture]) -> dict[str, Sequence[str] | None]:
    """Findings counted together that some pictures have; all of them where findings have no name."""
    present = {picture.finding for picture in pictures if picture.label == 1}
    groups: dict[str, Sequence[str] | None] = {
        name: findings for name, findings in collection.groups.items() if present & set(findings)
    }
    return groups if groups and "" not in present else {"": None, **groups}


def _load(path: Path) -> PictureArtefact:
    artefact = load_artefact(path)
    if not isinstance(artefact, PictureArtefact):
        raise ArtefactError(path / "manifest.json", "is of a model of volumes; a model of pictures is needed")
    return artefact


def _read(
    data: Path, task: str | None, read_folder: VolumeReader | None, contract: ImageContract
) -> Collection:
    return read_collection(data, contract, task=task, read_folder=read_folder)


def _evaluate_one(
    artefact: PictureArtefact,
    collection: Collection,
    seed: int,
    draws: int,
    amount: Sweeps,
    found: _Found,
) -> None:
    manifest = artefact.manifest
    name = f"{manifest.name}-{manifest.version} seed {manifest.training.seed}"
    predictor = PicturePredictor.load(artefact)

    def model(pictures: Sequence[Picture]) -> StudyScore:
        scores = predictor.score_pictures(pictures)
        return StudyScore(study=scores.study, slices=scores.images, maps=scores.maps)

    calibration = read_calibration(artefact.path / CALIBRATION)
    band = calibration.bands[0] * calibration.display_max
    parts = _measure(collection, model, (name, "", seed, draws), found, band)
    scorers: Mapping[str, Scorer] = {"": model, "constant": constant, "intensity": intensity}
    for split, scored in parts.items():
        rowing = Rowing(artefact=name, split=split, scorer="", seed=seed, draws=draws)
        found.rows += reconstruction_rows(rowing, predictor, collection, scored.pictures)
        found.rows += synthetic_rows(rowing, collection, scorers, amount)
        for finding, findings in groups_of(collection, scored.pictures).items():
            found.scores.append(_shown_scores(name, split, finding, scored, findings))
        if not any(case.split == split for case in found.cases):
            found.cases += cases_of(name, split, scored)


def _measure(
    collection: Collection,
    scorer: Scorer,
    named: tuple[str, str, int, int],
    found: _Found,
    band: float | None = None,
) -> dict[str, Scored]:
    """Rows of one scorer on every scored part; the parts with their scores."""
    artefact, name, seed, draws = named
    kept_aside = collection.of_role("calibration")
    calibration = score(collection, kept_aside, scorer) if kept_aside else None
    parts = {}
    for split in collection.scored_splits:
        pictures = collection.of_split(split)
        rowing = Rowing(artefact=artefact, split=split, scorer=name, seed=seed, draws=draws)
        parts[split] = score(collection, pictures, scorer)
        found.rows += rows_of_part(rowing, parts[split], calibration, groups_of(collection, pictures), band)
    return parts


def _shown_scores(
    artefact: str, split: str, finding: str, scored: Scored, findings: Sequence[str] | None
) -> dict[str, object]:
    """Labels and scores of the cases of one row, for curves; sorted, so that nobody is known."""
    chosen = of_finding(scored.pictures, findings)
    labels = np.array([picture.label == 1 for picture in scored.pictures])[chosen]
    values = scored.scores[chosen]
    order = np.lexsort((labels, values))
    return {
        "artefact": artefact,
        "split": split,
        "finding": finding,
        "labels": [int(label) for label in labels[order]],
        "scores": [float(f"{value:.6g}") for value in values[order]],
    }


def _peak_memory_mib() -> int:
    """Largest memory this process has had, data included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)

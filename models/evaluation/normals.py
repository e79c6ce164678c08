"""Scores of the normals of a data folder that a model was not trained on, one a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.artefact import Artefact
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.picture_baselines import PictureComponents, Scorer, StudyScore
from models.images.collection import Collection, read_collection
from models.images.description import describe
from models.images.picture import Picture
from models.images.predictor import PicturePredictor
from models.predictor import Predictor

CALIBRATION: Literal["calibration"] = "calibration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Normals:
    """Study scores and highest map values of normals.

    Attributes
    ----------
    name : str
        Data and model.
    reference : float64, shape (n,)
        Scores of the people kept aside to calibrate with.
    others : float64, shape (m,)
        Scores of those no one has used.
    maxima : float64, shape (n + m,)
        Highest map value of each, references first; empty for a method without a map.
    """

    name: str
    reference: NDArray[np.float64]
    others: NDArray[np.float64]
    maxima: NDArray[np.float64]

    @property
    def all(self) -> NDArray[np.float64]:
        """Scores of everybody, references first."""
        return np.concatenate([self.reference, self.others])


def volume_normals(artefact: Artefact, data: Path) -> Normals:
    """Normals of a folder of volumes.

    Those of role ``selection`` count with the others: the networks' steps and the level of each member were
    chosen on them, nothing was fitted to them.

    Parameters
    ----------
    artefact : Artefact
    data : Path
        Folder described by ``models/records/data/<folder>.yaml``.
    """
    described, predictor = read_data_record(data), Predictor.load(artefact)
    reference = [entry for entry in described.of_role(CALIBRATION) if not entry.finding]
    others = [*described.of_role("selection"), *described.of_role("test")]
    entries = [*reference, *(entry for entry in others if not entry.finding)]
    scores, maxima = np.empty(len(entries)), np.empty(len(entries))
    for number, entry in enumerate(entries):
        outcome = predictor.score(read_nifti(data / entry.file))
        scores[number], maxima[number] = outcome.study_score, outcome.combined.max()
    return Normals(
        name=f"{described.name}, {artefact.manifest.name} {artefact.manifest.version}",
        reference=scores[: len(reference)],
        others=scores[len(reference) :],
        maxima=maxima,
    )


def picture_normals(predictor: PicturePredictor | None, data: Path, task: str | None = None) -> Normals:
    """Normals of a folder of pictures.

    Parameters
    ----------
    predictor : PicturePredictor or None
        None: the residual of principal components, which needs no trained model.
    data : Path
        Folder described by ``models/records/data/<folder>.yaml``.
    task : str, optional
        For sets of classes.
    """
    if predictor is None:
        collection = read_collection(data, describe(data).contract, task=task)
        return _scored(collection, PictureComponents(collection.of_role("train")), "principal components")
    manifest = predictor.manifest
    collection = read_collection(data, manifest.input, task=task)

    def model(pictures: Sequence[Picture]) -> StudyScore:
        found = predictor.score_pictures(pictures)
        return StudyScore(study=found.study, slices=found.images, maps=found.maps)

    return _scored(collection, model, f"{manifest.name} {manifest.version}")


def _scored(collection: Collection, scorer: Scorer, name: str) -> Normals:
    reference = collection.studies(collection.of_role(CALIBRATION))
    tested = collection.of_split(*(split for split in collection.scored_splits if split != "train"))
    others = collection.studies(picture for picture in tested if picture.label == 0)
    found = [scorer(pictures) for pictures in (*reference.values(), *others.values())]
    scores = np.array([one.study for one in found])
    return Normals(
        name=f"{collection.name}, {name}",
        reference=scores[: len(reference)],
        others=scores[len(reference) :],
        maxima=np.array([one.maps.max() for one in found if one.maps is not None], dtype=np.float64),
    )

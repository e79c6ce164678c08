"""Pictures with their scores, ready to be counted."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.picture_baselines import Scorer
from models.images.collection import Collection
from models.images.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Pictures of one part of the data and what one scorer says of them.

    Attributes
    ----------
    pictures : tuple of Picture
    scores : float64, shape (pictures,)
        Of each picture.
    maps : tuple of float32 arrays, or None
        On the prepared grid, one a picture.
    studies : dict of str to float
        Score of each study.
    seconds : float
        Per study.
    """

    pictures: tuple[Picture, ...]
    scores: NDArray[np.float64]
    maps: tuple[NDArray[np.float32], ...] | None
    studies: dict[str, float]
    seconds: float

    def native(self) -> Iterator[tuple[Picture, NDArray[np.float32], NDArray[np.bool_]]]:
        """Pictures whose lesions are known, with their map and lesion on the native grid."""
        for picture, plane in zip(self.pictures, self.maps or (), strict=False):
            lesion = picture.lesion
            if lesion is None and picture.label == 0:
                lesion = np.zeros(picture.native_shape, dtype=np.bool_)
            if lesion is not None:
                yield picture, picture.to_native(plane), lesion


def score(collection: Collection, split: str, scorer: Scorer) -> Scored:
    """Score one part of a collection, study by study.

    Slices of a study that are in another part go to the scorer, as neighbours, and are not kept.
    """
    wanted = {picture.study for picture in collection.of_split(split)}
    everything = (picture for picture in collection.pictures if picture.study in wanted)
    kept: list[Picture] = []
    scores: list[float] = []
    maps: list[NDArray[np.float32]] = []
    studies: dict[str, float] = {}
    start = time.perf_counter()
    for name, pictures in collection.studies(everything).items():
        found = scorer(pictures)
        studies[name] = found.study
        for i, picture in enumerate(pictures):
            if picture.split == split:
                kept.append(picture)
                scores.append(float(found.slices[i]))
                if found.maps is not None:
                    maps.append(found.maps[i])
    return Scored(
        pictures=tuple(kept),
        scores=np.array(scores, dtype=np.float64),
        maps=tuple(maps) if len(maps) == len(kept) else None,
        studies=studies,
        seconds=(time.perf_counter() - start) / max(1, len(studies)),
    )


def of_finding(pictures: Sequence[Picture], findings: Sequence[str] | None) -> NDArray[np.bool_]:
    """Pictures that count: normals, and the abnormal with one of the findings (all of them for None)."""
    return np.array(
        [
            picture.label == 0 or (picture.label == 1 and (findings is None or picture.finding in findings))
            for picture in pictures
        ],
        dtype=np.bool_,
    )

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
    """Pictures and what one scorer says of them.

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

    def native(self) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
        """Patient, maps and lesions of each study on the native grid, as far as lesions are known.

        Both arrays have the shape (slices, rows, columns); normal pictures have an empty lesion.
        """
        found: dict[str, tuple[str, list[NDArray[np.float32]], list[NDArray[np.bool_]]]] = {}
        for picture, plane in zip(self.pictures, self.maps or (), strict=False):
            lesion = picture.lesion
            if lesion is None and picture.label == 0:
                lesion = np.zeros(picture.native_shape, dtype=np.bool_)
            if lesion is not None:
                _, maps, lesions = found.setdefault(picture.study, (picture.patient, [], []))
                maps.append(picture.to_native(plane))
                lesions.append(lesion)
        for patient, maps, lesions in found.values():
            yield patient, np.stack(maps), np.stack(lesions)


def score(collection: Collection, pictures: Sequence[Picture], scorer: Scorer) -> Scored:
    """Score some pictures of a collection, study by study.

    The other slices of their studies go to the scorer too, as neighbours, and are not kept.
    """
    wanted = {(picture.study, picture.index) for picture in pictures}
    names = {picture.study for picture in pictures}
    everything = (picture for picture in collection.pictures if picture.study in names)
    kept: list[Picture] = []
    scores: list[float] = []
    maps: list[NDArray[np.float32]] = []
    studies: dict[str, float] = {}
    start = time.perf_counter()
    for name, slices in collection.studies(everything).items():
        found = scorer(slices)
        studies[name] = found.study
        for i, picture in enumerate(slices):
            if (picture.study, picture.index) in wanted:
                kept.append(picture)
                scores.append(float(found.slices[i]))
                if found.maps is not None:
                    maps.append(found.maps[i])
    return Scored(
        pictures=tuple(kept),
        scores=np.array(scores, dtype=np.float64),
        maps=tuple(maps) if maps else None,
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

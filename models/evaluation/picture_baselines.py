"""What a picture model must beat: scores that need no network, and properties that should tell nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.images.collection import Collection
from models.images.levels import equalised
from models.images.picture import Picture

TOP_SHARE = 0.05  # Of the assessed pixels; their mean is an image score.
EQUALISED_BINS = 256
COMPONENTS = 32
MOST_PCA_PICTURES = 600  # More change nothing that can be seen and cost minutes.
SHORTCUTS = ("slice_position", "aspect_ratio", "sharpness", "contrast")

Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyScore:
    """Scores of one study; higher is more abnormal.

    Attributes
    ----------
    study : float
    slices : float64, shape (slices,)
    maps : float32, shape (slices, rows, columns), or None
        On the prepared grid.
    """

    study: float
    slices: NDArray[np.float64]
    maps: Maps | None


Scorer = Callable[[Sequence[Picture]], StudyScore]


def top_share(values: NDArray[np.float32], mask: NDArray[np.bool_], share: float = TOP_SHARE) -> float:
    """Mean of the highest share of the masked values; 0 for an empty mask."""
    inside = values[mask]
    if not inside.size:
        return 0.0
    count = max(1, round(share * inside.size))
    return float(np.partition(inside, inside.size - count)[inside.size - count :].mean(dtype=np.float64))


def constant(pictures: Sequence[Picture]) -> StudyScore:
    """The same for everything."""
    shape = (len(pictures), *pictures[0].mask.shape)
    return StudyScore(study=0.0, slices=np.zeros(len(pictures)), maps=np.zeros(shape, dtype=np.float32))


def intensity(pictures: Sequence[Picture]) -> StudyScore:
    """Brightness; an image counts by its brightest twentieth."""
    return _of_maps(pictures, _grey(pictures))


def mean_intensity(pictures: Sequence[Picture]) -> StudyScore:
    """Mean brightness of an image."""
    grey = _grey(pictures)
    slices = np.array([top_share(g, p.mask, 1.0) for g, p in zip(grey, pictures, strict=True)])
    return StudyScore(study=float(slices.mean()), slices=slices, maps=None)


def equalised_intensity(pictures: Sequence[Picture]) -> StudyScore:
    """Rank of the brightness in the whole study; an image counts by its brightest twentieth."""
    grey = _grey(pictures)
    mask = np.stack([picture.mask for picture in pictures])
    return _of_maps(pictures, equalised(grey, grey[mask], EQUALISED_BINS) * mask)


class PictureComponents:
    """Absolute residual of the principal components of normal training pictures.

    Parameters
    ----------
    normals : sequence of Picture
        At most `MOST_PCA_PICTURES` of them are used, evenly taken.
    """

    def __init__(self, normals: Sequence[Picture]) -> None:
        chosen = np.unique(np.linspace(0, len(normals) - 1, min(len(normals), MOST_PCA_PICTURES)).round())
        data = np.stack([_plane(normals[int(i)]).ravel() for i in chosen])
        self._mean = data.mean(axis=0)
        centred = data - self._mean
        # The small matrix of inner products has the same components and is quickly solved.
        values, vectors = np.linalg.eigh(centred.astype(np.float64) @ centred.T)
        kept = min(COMPONENTS, max(1, len(data) // 2))
        scale = np.sqrt(np.maximum(values[-kept:], 1e-9))
        self._components = ((vectors[:, -kept:] / scale).T @ centred).astype(np.float32)

    def __call__(self, pictures: Sequence[Picture]) -> StudyScore:
        """Scores of one study."""
        planes = _grey(pictures)
        flat = planes.reshape(len(planes), -1) - self._mean
        residual = np.abs(flat - (flat @ self._components.T) @ self._components).reshape(planes.shape)
        mask = np.stack([picture.mask for picture in pictures])
        return _of_maps(pictures, np.where(mask, residual, np.float32(0)))


def shortcut(name: str) -> Scorer:
    """Scores of a property; the middle of a stack counts as the abnormal end of the slice position."""

    def score(pictures: Sequence[Picture]) -> StudyScore:
        values = np.array([picture.covariates.get(name, 0.0) for picture in pictures])
        if name == "slice_position":
            values = 1 - np.abs(2 * values - 1)
        return StudyScore(study=float(values.mean()), slices=values, maps=None)

    return score


def baselines(collection: Collection) -> dict[str, Scorer]:
    """All rows that need no model, by the name that stands in the table.

    A shortcut is left out where every picture has the same value.
    """
    found: dict[str, Scorer] = {
        "constant": constant,
        "mean_intensity": mean_intensity,
        "intensity": intensity,
        "equalised": equalised_intensity,
    }
    normals = collection.of_role("train")
    if normals:
        found["pca"] = PictureComponents(normals)
    for name in SHORTCUTS:
        if len({picture.covariates.get(name) for picture in collection.pictures}) > 1:
            found[name] = shortcut(name)
    return found


def _plane(picture: Picture) -> NDArray[np.float32]:
    return np.asarray(picture.pixels.mean(axis=0) * picture.mask, dtype=np.float32)


def _grey(pictures: Sequence[Picture]) -> Maps:
    return np.stack([_plane(picture) for picture in pictures])


def _of_maps(pictures: Sequence[Picture], maps: Maps) -> StudyScore:
    slices = np.array([top_share(m, p.mask) for m, p in zip(maps, pictures, strict=True)])
    return StudyScore(study=float(slices.max()), slices=slices, maps=maps)

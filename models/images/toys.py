"""Sets of pictures with synthetic anomalies: for choosing a training step, and for reports without labels.

A toy picture lives on its prepared grid: its native pixels are its prepared ones, and its lesion is there.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.images.anomalies import CATEGORIES, Dose, Stack
from models.images.collection import Collection
from models.images.picture import Picture

TOYS = "toys"  # The part a toy set is scored by.
CONTEXT = "context"  # Slices that are there as neighbours alone.
SWEPT_RADIUS = 0.1  # Of the intensity sweep, as a share of the body's diameter.
SWEPT_INTENSITY = 1.0  # Of the radius sweep.
INTENSITIES = tuple(round(0.05 * step, 2) for step in range(21))
SWEPT_RADII = (0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3)


def categories(collection: Collection) -> tuple[str, ...]:
    """Kinds of anomalies that a collection's studies can have: single pictures lose no slices."""
    has_stacks = any(picture.index > 0 for picture in collection.pictures)
    return tuple(name for name, category in CATEGORIES.items() if has_stacks or not category.needs_stack)


def toy_set(
    collection: Collection,
    pictures: Sequence[Picture],
    *,
    seed: int,
    category: str = "sphere",
    copies: int = 1,
) -> Collection:
    """Pictures as they are and the same with an anomaly in each study, both in part ``toys``.

    Parameters
    ----------
    collection : Collection
        Where the pictures and their neighbours come from.
    pictures : sequence of Picture
        Normal ones, such as those of role ``selection``.
    seed : int
        The same seed gives the same set, whatever else is in the collection.
    category : str
        A key of `models.images.anomalies.CATEGORIES`.
    copies : int
        Anomalies made of every study, each in a copy of its own; more where studies are few.
    """
    made = untouched(collection, pictures)
    for copy in range(copies):
        toys = corrupted(collection, pictures, seed=seed, category=category, copy=copy)
        made = replace(made, pictures=(*made.pictures, *toys.pictures))
    return made


def untouched(collection: Collection, pictures: Sequence[Picture]) -> Collection:
    """Pictures as they are, in part ``toys``, with an empty lesion."""
    return _rebuilt(collection, pictures, _as_they_are)


def corrupted(
    collection: Collection,
    pictures: Sequence[Picture],
    *,
    seed: int,
    category: str = "sphere",
    intensity: float | None = None,
    radius: float | None = None,
    copy: int = 0,
) -> Collection:
    """Pictures with one anomaly in each study.

    Slices of a study that the anomaly does not reach stay normal. A global anomaly has no lesion.

    Parameters
    ----------
    collection, pictures, seed, category
        As for `toy_set`.
    intensity, radius : float, optional
        Fixed instead of drawn; see `models.images.anomalies.Dose`. The place and everything else that is
        drawn depend on the seed alone, so a sweep moves nothing but what it sweeps.

    copy : int
        Which of several anomalies of the same seed.

    Raises
    ------
    DatasetError
        If a study has no pixel to assess in the given pictures.
    """
    kind = CATEGORIES[category]

    def change(study: str, slices: tuple[Picture, ...], chosen: NDArray[np.bool_]) -> tuple[Picture, ...]:
        digest = hashlib.sha256(f"{seed}:{category}:{copy}:{study}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        stack = Stack(
            pixels=np.stack([picture.pixels for picture in slices]),
            mask=np.stack([picture.mask for picture in slices]),
        )
        if not (stack.mask & chosen[:, None, None]).any():
            raise DatasetError(f"{study}: nothing in it is assessed, so nothing can be put there")
        made = kind.make(stack, rng, Dose(intensity=intensity, radius=radius, slices=chosen))
        return tuple(
            replace(
                picture,
                pixels=made.pixels[i],
                mask=made.mask[i],
                study=f"{study}+{category}-{copy}",
                label=int(made.touched[i]),
                finding=category if made.touched[i] else "",
                lesion=None if made.lesion is None else made.lesion[i],
            )
            for i, picture in enumerate(slices)
        )

    return _rebuilt(collection, pictures, change)


def sweep(
    collection: Collection,
    pictures: Sequence[Picture],
    *,
    over: Literal["intensity", "radius"],
    seed: int,
    category: str = "sphere",
) -> Iterator[tuple[float, Collection]]:
    """Corrupted pictures for every value of a sweep, without the normal ones.

    Over the intensity the radius is a tenth of the body's diameter; over the radius the intensity is 1.
    """
    for value in INTENSITIES if over == "intensity" else SWEPT_RADII:
        yield (
            value,
            corrupted(
                collection,
                pictures,
                seed=seed,
                category=category,
                intensity=value if over == "intensity" else SWEPT_INTENSITY,
                radius=value if over == "radius" else SWEPT_RADIUS,
            ),
        )


def _as_they_are(study: str, slices: tuple[Picture, ...], chosen: NDArray[np.bool_]) -> tuple[Picture, ...]:
    del study, chosen
    return tuple(
        replace(picture, label=0, finding="", lesion=np.zeros(picture.mask.shape, dtype=np.bool_))
        for picture in slices
    )


def _rebuilt(
    collection: Collection,
    pictures: Sequence[Picture],
    change: Callable[[str, tuple[Picture, ...], NDArray[np.bool_]], tuple[Picture, ...]],
) -> Collection:
    """A collection of the studies of some pictures, each study changed as a whole.

    Only the given pictures are in part ``toys``; the others of their studies are neighbours.
    """
    wanted = {(picture.study, picture.index) for picture in pictures}
    of_interest = {study for study, _ in wanted}
    studies = collection.studies(picture for picture in collection.pictures if picture.study in of_interest)
    made: list[Picture] = []
    for study, slices in studies.items():
        chosen = np.array([(study, picture.index) in wanted for picture in slices])
        for is_chosen, picture in zip(chosen, change(study, slices, chosen), strict=True):
            made.append(
                replace(
                    picture,
                    split=TOYS if is_chosen else CONTEXT,
                    native_shape=(picture.mask.shape[0], picture.mask.shape[1]),
                    grid=np.eye(3),
                )
            )
    return replace(collection, name=f"{collection.name}, toys", pictures=tuple(made), roles={})

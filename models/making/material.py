"""What a training sees of a data folder: normals of different people, and toy lesions in some of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from models.images.collection import Arrays, Collection
from models.images.picture import Picture
from models.images.sources import TRAIN
from models.images.toys import TOYS, corrupted, untouched
from models.making.pool import Pool, ToyPool

MOST_TOYS = 192
TOY_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything a training sees.

    Attributes
    ----------
    train, selection : Pool
        Normals of different people.
    toys : ToyPool
        Selection normals with toy lesions.
    marked : Pool or None
        Abnormal pictures of split ``train`` whose finding is known pixel by pixel, such as pseudo-labels that
        readers confirmed; of people who are in no other role. None where there are none.
    """

    train: Pool
    selection: Pool
    toys: ToyPool
    marked: Pool | None = None

    def digest(self) -> str:
        """SHA-256 of every number training sees."""
        found = hashlib.sha256()
        marked = () if self.marked is None else (self.marked,)
        for pool in (self.train, self.selection, self.toys.changed, self.toys.clean, *marked):
            for values in (pool.pixels, pool.mask, pool.position):
                found.update(str(tuple(values.shape)).encode())
                found.update(values.contiguous().numpy().tobytes())
        for lesion in (self.toys.lesion, *(pool.lesion for pool in marked)):
            if lesion is not None:
                found.update(lesion.contiguous().numpy().tobytes())
        return found.hexdigest()


def gather(collection: Collection, *, seed: int) -> Material:
    """What a training sees of a data folder: only normals of split ``train``.

    Raises
    ------
    DatasetError
        If a role has no normal picture.
    """
    collection.check_training()
    selection = collection.of_role("selection")
    clean = untouched(collection, selection)
    toys = corrupted(collection, selection, seed=seed)
    changed = _every(picture for picture in toys.of_split(TOYS) if picture.label == 1)
    lesion = np.stack([picture.lesion for picture in changed if picture.lesion is not None])
    return Material(
        train=pool_of(collection.arrays(collection.of_role("train"))),
        selection=pool_of(collection.arrays(selection)),
        toys=ToyPool(
            changed=pool_of(toys.arrays(changed)),
            clean=pool_of(clean.arrays(_every(clean.of_split(TOYS)))),
            lesion=torch.from_numpy(lesion[:, None]),
        ),
        marked=_marked(collection),
    )


def _marked(collection: Collection) -> Pool | None:
    """Abnormal training pictures with their findings on the grid that the network sees."""
    known = [
        (picture, picture.lesion)
        for picture in collection.of_split(TRAIN)
        if picture.label == 1
        and picture.lesion is not None
        and collection.roles.get(picture.study, "train") == "train"
    ]
    if not known:
        return None
    pool = pool_of(collection.arrays([picture for picture, _ in known]))
    lesions = np.stack([_on_prepared_grid(picture, lesion) for picture, lesion in known])
    return replace(pool, lesion=torch.from_numpy(lesions[:, None].astype(np.float32)))


def _on_prepared_grid(picture: Picture, lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A lesion mask of the native grid, as the nearest native pixel of each prepared one has it."""
    rows, columns = np.indices(picture.mask.shape)
    places = picture.grid @ np.stack([rows.ravel(), columns.ravel(), np.ones(rows.size)])
    found = ndimage.map_coordinates(lesion.astype(np.uint8), places[:2], order=0, mode="constant")
    return np.asarray(found.reshape(picture.mask.shape) > 0)


def _every(pictures: Iterable[Picture]) -> tuple[Picture, ...]:
    """At most ``MOST_TOYS`` of some pictures, evenly spread: enough to choose a step."""
    found = tuple(pictures)
    return found[:: -(-len(found) // MOST_TOYS)] if found else found


def pool_of(arrays: Arrays) -> Pool:
    """Prepared pictures as tensors."""
    return Pool(
        pixels=torch.from_numpy(arrays.pixels),
        mask=torch.from_numpy(arrays.mask.astype(np.float32)),
        position=torch.from_numpy(arrays.position),
    )

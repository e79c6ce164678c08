"""What a training sees of a data folder: normals of different people, and toy lesions in some of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from models.images.collection import Arrays, Collection
from models.images.picture import Picture
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
    """

    train: Pool
    selection: Pool
    toys: ToyPool

    def digest(self) -> str:
        """SHA-256 of every number training sees."""
        found = hashlib.sha256()
        for pool in (self.train, self.selection, self.toys.changed, self.toys.clean):
            for values in (pool.pixels, pool.mask, pool.position):
                found.update(str(tuple(values.shape)).encode())
                found.update(values.contiguous().numpy().tobytes())
        found.update(self.toys.lesion.contiguous().numpy().tobytes())
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
    )


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

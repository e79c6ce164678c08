"""A record and a data folder → an artefact of a picture model."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.errors import RecordError
from models.images.collection import Arrays, Collection
from models.images.contract import ImageContract
from models.images.picture import Picture
from models.images.toys import TOYS, corrupted, untouched
from models.making.ensemble import Ensemble
from models.making.head import Scoring
from models.making.pool import Pool, ToyPool
from models.making.record import MethodRecord, Recipe, read_method
from models.making.training import Report, train

MOST_TOYS = 192
SEED_STRIDE = 101  # Between the seeds of an ensemble's members, so that runs of neighbouring seeds differ.


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


def contract_of(recipe: Recipe, data: ImageContract) -> ImageContract:
    """How pictures are prepared for a recipe.

    Raises
    ------
    RecordError
        If the members of an ensemble do not agree.
    """
    if isinstance(recipe, MethodRecord):
        return recipe.input.contract(data)
    found = [contract_of(read_method(member.record), data) for member in recipe.members.values()]
    for name, other in zip(recipe.members, found, strict=True):
        if other != found[0]:
            raise RecordError(
                f"{recipe.id}: members.{name} prepares pictures otherwise than the first member"
            )
    return found[0]


def pool_of(arrays: Arrays) -> Pool:
    """Prepared pictures as tensors."""
    return Pool(
        pixels=torch.from_numpy(arrays.pixels),
        mask=torch.from_numpy(arrays.mask.astype(np.float32)),
        position=torch.from_numpy(arrays.position),
    )


def train_recipe(
    recipe: Recipe, material: Material, *, seed: int, run: Path | None, report: Report | None
) -> Scoring:
    """A trained method, or every member of an ensemble trained and joined."""
    if isinstance(recipe, MethodRecord):
        return train(recipe, material.train, material.toys, seed=seed, run=run, report=report).head
    heads = []
    for number, (name, member) in enumerate(recipe.members.items()):
        for repeat in range(member.seeds):
            part = f"{name}-{repeat}"
            own = None if run is None else run / part
            method = read_method(member.record)
            of_member = SEED_STRIDE * (number * 16 + repeat) + seed
            trained = train(
                method,
                material.train,
                material.toys,
                seed=of_member,
                run=own,
                report=report and _named(report, part),
            )
            heads.append((member, trained.head))
    joined = Ensemble(recipe, heads)
    joined.fit(material.selection.chunks)
    return joined.eval()


def _named(report: Report, part: str) -> Report:
    """A report that says which member it is about."""

    def told(stage: str, step: int, steps: int) -> None:
        report(f"{part}, {stage}", step, steps)

    return told

"""The prepared pictures of a data folder, their parts and their roles."""

import hashlib
from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.images.contract import ImageContract
from models.images.description import ArraysLayout, IdxLayout, ImageData, Shares, describe
from models.images.picture import Picture, stack_context
from models.images.preparation import LEAST_ASSESSED, pictures_of
from models.images.sources import SEED, TRAIN, Role, Source, from_arrays, from_idx
from models.images.tables import VolumeReader, from_table

LARGEST_COLLECTION = 2**31  # Bytes of prepared pixels kept in memory.
LEAST_PATIENTS = 3  # One for each role.


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Pictures as a network takes them.

    Attributes
    ----------
    pixels : float32, shape (pictures, channels * context, rows, columns)
    mask : bool, shape (pictures, 1, rows, columns)
    position : float32, shape (pictures,)
        -1 to 1.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    position: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The prepared pictures of a data folder.

    Attributes
    ----------
    name : str
        Of the folder, with the task behind a slash where one was asked for.
    description : ImageData
    contract : ImageContract
        How they were prepared.
    pictures : tuple of Picture
        Slices of a study stand together, in slice order.
    roles : dict of str to str
        Study to role, for the studies of split ``train``. A patient has one role.
    """

    name: str
    description: ImageData
    contract: ImageContract
    pictures: tuple[Picture, ...]
    roles: dict[str, Role]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the data."""
        return tuple(dict.fromkeys(picture.split for picture in self.pictures))

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """Parts that evaluation scores: all but ``train``."""
        return tuple(split for split in self.splits if split != TRAIN)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Findings counted together, by the name of their row: as described, else each finding for itself."""
        present = sorted({picture.finding for picture in self.pictures if picture.finding})
        return self.description.groups or {finding: (finding,) for finding in present}

    def of_split(self, *names: str) -> tuple[Picture, ...]:
        """All pictures of some parts of the data, normal or not."""
        return tuple(picture for picture in self.pictures if picture.split in names)

    def of_role(self, *roles: Role) -> tuple[Picture, ...]:
        """Normal pictures of split ``train`` with some roles; empty slices are left out."""
        return tuple(
            picture
            for picture in self.pictures
            if picture.split == TRAIN
            and picture.label == 0
            and self.roles.get(picture.study) in roles
            and picture.mask.mean() >= LEAST_ASSESSED
        )

    def studies(self, pictures: Iterable[Picture] | None = None) -> dict[str, tuple[Picture, ...]]:
        """Pictures by study, in slice order; all of the collection unless some are given."""
        found: dict[str, list[Picture]] = {}
        for picture in self.pictures if pictures is None else pictures:
            found.setdefault(picture.study, []).append(picture)
        return {
            study: tuple(sorted(slices, key=lambda slice_: slice_.index)) for study, slices in found.items()
        }

    def arrays(self, pictures: Sequence[Picture]) -> Arrays:
        """Pictures as a network takes them, in the given order.

        Neighbouring slices come from the whole collection, so a slice has its context whether or not its
        neighbours are among ``pictures``.

        Raises
        ------
        DatasetError
            If there is no picture.
        """
        if not pictures:
            raise DatasetError(f"{self.name}: no picture of what was asked for")
        context = self.contract.context
        if context == (0,):
            pixels = np.stack([picture.pixels for picture in pictures])
        else:
            studies = self.studies(self._of_studies({picture.study for picture in pictures}))
            stacks = {study: stack_context(slices, context) for study, slices in studies.items()}
            pixels = np.stack([stacks[picture.study][picture.index] for picture in pictures])
        return Arrays(
            pixels=pixels,
            mask=np.stack([picture.mask for picture in pictures])[:, None],
            position=np.array([picture.position for picture in pictures], dtype=np.float32),
        )

    def _of_studies(self, studies: set[str]) -> Iterator[Picture]:
        return (picture for picture in self.pictures if picture.study in studies)

    def check_training(self) -> None:
        """Refuse a folder that nothing can be learnt from, before training starts.

        Raises
        ------
        DatasetError
            If a role has no normal picture, or a part that is scored has abnormal pictures and no normal one.
        """
        for role in ("train", "selection", "calibration"):
            if not self.of_role(role):
                raise DatasetError(
                    f"{self.name}: no normal picture for {role}; split train needs normals of at least "
                    f"{LEAST_PATIENTS} patients"
                )
        for split in self.scored_splits:
            labels = {picture.label for picture in self.of_split(split)}
            if 1 in labels and 0 not in labels:
                raise DatasetError(f"{self.name}: part {split} has abnormal pictures and no normal one")


def read_collection(
    folder: Path,
    contract: ImageContract | None = None,
    *,
    task: str | None = None,
    splits: Names[str] | None = None,
    read_folder: VolumeReader | None = None,
) -> Collection:
    """Read and prepare the pictures of a data folder.

    Parameters
    ----------
    folder : Path
        Described by ``models/records/data/<name>.yaml`` or by its own ``manifest.csv``.
    contract : ImageContract, optional
        How they are prepared; the description's own contract unless given.
    task : str, optional
        For sets of classes, which are normal; the description's first task unless given.
    splits : collection of str, optional
        Parts to read; all unless given.
    read_folder : callable, optional
        Opens a row of a manifest whose file is a folder, such as a DICOM series.

    Raises
    ------
    DatasetError
        If the folder is not what its description says, a picture is constant or not finite, or a patient is
        on both sides of the split.
    RecordError
        If the description is not valid.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder.name}: no such folder")
    data = describe(folder)
    contract = contract or data.contract
    pictures: list[Picture] = []
    fixed: dict[str, Role] = {}
    size = 0
    for source in _sources(folder, data, task, splits, read_folder):
        prepared = pictures_of(source, contract)
        size += sum(picture.pixels.nbytes for picture in prepared)
        if size > LARGEST_COLLECTION:
            raise DatasetError(
                f"{folder.name}: more than {LARGEST_COLLECTION >> 20} MiB of prepared pictures; "
                "read fewer parts or prepare them smaller"
            )
        pictures.extend(prepared)
        fixed.update({study: role for study, role in zip(source.studies, source.roles, strict=True) if role})
    if not pictures:
        raise DatasetError(f"{folder.name}: no picture in {', '.join(splits or ('any part',))}")
    return Collection(
        name=f"{data.name}/{task}" if task else data.name,
        description=data,
        contract=contract,
        pictures=tuple(pictures),
        roles=_roles(pictures, fixed, data.shares),
    )


def _sources(
    folder: Path,
    data: ImageData,
    task: str | None,
    splits: Names[str] | None,
    read_folder: VolumeReader | None,
) -> Iterator[Source]:
    """Studies of a folder, by its layout."""
    layout = data.files
    if isinstance(layout, IdxLayout):
        chosen = task or next(iter(data.tasks), "")
        if chosen not in data.tasks:
            raise DatasetError(f"{data.name}: no task {chosen!r}; it has {', '.join(data.tasks)}")
        return from_idx(folder, layout, data.tasks[chosen], splits)
    if task:
        raise DatasetError(f"{data.name}: no task {task!r}; this folder is used in one way")
    if isinstance(layout, ArraysLayout):
        return from_arrays(folder, layout, splits)
    return from_table(folder, data, layout, splits, read_folder)


def _roles(pictures: Sequence[Picture], fixed: dict[str, Role], shares: Shares) -> dict[str, Role]:
    """Role of every study of split ``train``: fixed ones as they are, the others cut by patient.

    The patients with normal pictures are put in the order of a seeded hash; the first go to selection, the
    next to calibration, the rest to training. Who else is in the folder changes the order of nobody.
    """
    patients = {
        picture.patient
        for picture in pictures
        if picture.split == TRAIN and picture.label == 0 and picture.study not in fixed
    }
    order = sorted(patients, key=lambda patient: hashlib.sha256(f"{SEED}:{patient}".encode()).digest())
    least = 1 if len(order) >= LEAST_PATIENTS else 0
    selection = max(least, round(shares.selection * len(order)))
    calibration = max(least, round(shares.calibration * len(order)))
    role_of: dict[str, Role] = dict.fromkeys(order, "train")
    role_of.update(dict.fromkeys(order[:selection], "selection"))
    role_of.update(dict.fromkeys(order[selection : selection + calibration], "calibration"))
    cut = {
        picture.study: role_of[picture.patient]
        for picture in pictures
        if picture.split == TRAIN and picture.patient in role_of
    }
    return {**cut, **fixed}

"""Studies of a data folder as read, before preparation, one at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.images.description import ArraysLayout, IdxLayout, Task
from models.images.files import as_brightness, read_arrays, read_idx

Role = Literal["train", "selection", "calibration"]

TRAIN: Final = "train"
CUT_ORDER: Final[tuple[Role, ...]] = ("train", "selection", "calibration")  # What is left of a cut is tested.
SEED = 20261121  # Of every random cut of a data folder.


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One stack, or several single pictures of one shape, as read.

    Attributes
    ----------
    pixels : float32, shape (pictures, channels, rows, columns)
        In [0, 1].
    is_stack : bool
        Whether the pictures are the slices of one study, in order.
    patients, studies, labels, findings, roles : sequence
        One entry a picture. A role that is None is not fixed yet.
    split : str
    lesions : bool, shape (pictures, rows, columns), or None
    original_shape : tuple of int, optional
        Rows and columns before padding.
    is_left_eye : bool
    numbers : dict of str to float
        Covariates of the table.
    """

    pixels: NDArray[np.float32]
    is_stack: bool
    patients: Sequence[str]
    studies: Sequence[str]
    labels: Sequence[int | None]
    findings: Sequence[str]
    split: str
    roles: Sequence[Role | None]
    lesions: NDArray[np.bool_] | None = None
    original_shape: tuple[int, int] | None = None
    is_left_eye: bool = False
    numbers: dict[str, float] = field(default_factory=dict)


def is_wanted(split: str, splits: Iterable[str] | None) -> bool:
    """Whether a part of the data was asked for; all parts are if none is named."""
    return splits is None or split in splits


def check_sides(rows: Iterable[tuple[str, str, str]], table: str) -> None:
    """Refuse a person who is in the training part and in a part that is scored.

    Parameters
    ----------
    rows : iterable of (where, patient, split)
    table : str
        Name of the file the rows stand in.

    Raises
    ------
    DatasetError
        Names both rows, not the person.
    """
    first: dict[str, tuple[str, bool]] = {}
    for where, patient, split in rows:
        if not patient:
            raise DatasetError(f"{table}, {where}: no patient; without one the split cannot be checked")
        earlier, was_train = first.setdefault(patient, (where, split == TRAIN))
        if was_train != (split == TRAIN):
            raise DatasetError(
                f"{table}: {earlier} and {where} are the same patient on both sides of the split; "
                "move one of them"
            )


def from_arrays(folder: Path, layout: ArraysLayout, splits: Iterable[str] | None) -> Iterator[Source]:
    """Pictures of one npz file, one Source each: their padding differs.

    Raises
    ------
    DatasetError
        If an array is missing, has another length, or a patient is on both sides.
    """
    path = folder / layout.file
    names = [layout.image, layout.label, layout.split, layout.patient, layout.study]
    arrays = read_arrays(path, (*names, *([layout.original_size] if layout.original_size else [])))
    images = arrays[layout.image]
    if images.ndim not in {3, 4}:
        raise DatasetError(f"{path.name}: {layout.image} has shape {images.shape}, not (n, rows, columns)")
    for name, values in arrays.items():
        if len(values) != len(images):
            raise DatasetError(f"{path.name}: {name} has {len(values)} entries for {len(images)} pictures")
    parts = [str(part) for part in arrays[layout.split]]
    patients = [str(patient) for patient in arrays[layout.patient]]
    rows = zip((f"picture {i}" for i in range(len(parts))), patients, parts, strict=True)
    check_sides(rows, path.name)
    channels = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)  # noqa: PLR2004 - grey
    for i, part in enumerate(parts):
        if not is_wanted(part, splits):
            continue
        label = picture_label(str(arrays[layout.label][i]), f"{path.name}, picture {i}")
        study = str(arrays[layout.study][i])
        size = arrays[layout.original_size][i] if layout.original_size else None
        yield Source(
            pixels=as_brightness(channels[i : i + 1], path),
            is_stack=False,
            patients=(patients[i],),
            studies=(study,),
            labels=(label,),
            findings=(layout.finding if label else "",),
            split=part,
            roles=(None,),
            original_shape=None if size is None else (int(size[1]), int(size[0])),
        )


def from_idx(folder: Path, layout: IdxLayout, task: Task, splits: Iterable[str] | None) -> Iterator[Source]:
    """Pictures of an MNIST-like set, one Source a part.

    Raises
    ------
    DatasetError
        If files and labels do not belong together, or a class of the task has no picture.
    """
    if task.cut is None:
        parts: tuple[Literal["train"], Literal["test"]] = ("train", "test")
        for part in parts:
            if is_wanted(part, splits):
                images, labels = _idx_part(folder, layout, part)
                if part == TRAIN:
                    chosen = np.flatnonzero(_is_normal(labels, task))
                else:
                    chosen = np.flatnonzero(_is_normal(labels, task) | np.isin(labels, task.abnormal))
                yield _idx_source(images, labels, chosen, layout, task, part)
        return
    images, labels = _idx_part(folder, layout, TRAIN)
    rng = np.random.default_rng(SEED)
    normal = rng.permutation(np.flatnonzero(_is_normal(labels, task)))
    abnormal = [rng.permutation(np.flatnonzero(labels == number)) for number in task.abnormal]
    ends = np.round(np.cumsum([task.cut.get(role, 0.0) for role in CUT_ORDER]) * len(normal)).astype(int)
    pieces = np.split(normal, ends)
    if is_wanted(TRAIN, splits):
        for role, chosen in zip(CUT_ORDER, pieces, strict=False):
            yield _idx_source(images, labels, np.sort(chosen), layout, task, TRAIN, role)
    if is_wanted("test", splits):
        tested = [pieces[-1], *(found[: task.abnormal_limit] for found in abnormal)]
        yield _idx_source(images, labels, np.sort(np.concatenate(tested)), layout, task, "test")


def _is_normal(labels: NDArray[np.uint8], task: Task) -> NDArray[np.bool_]:
    """Pictures of the task's normal classes."""
    if task.normal:
        return np.isin(labels, task.normal)
    return ~np.isin(labels, task.abnormal)


def _idx_part(
    folder: Path, layout: IdxLayout, part: Literal["train", "test"]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of one part, checked against each other."""
    images, labels = (read_idx(folder / name) for name in layout.files[part])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):  # noqa: PLR2004 - pictures
        raise DatasetError(
            f"{layout.files[part][0]}: {images.shape} does not belong to {labels.shape} labels"
        )
    if len(labels) and int(labels.max()) >= len(layout.classes):
        raise DatasetError(
            f"{layout.files[part][1]}: label {labels.max()} beyond {len(layout.classes)} classes"
        )
    return images, labels


def _idx_source(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    chosen: NDArray[np.intp],
    layout: IdxLayout,
    task: Task,
    split: str,
    role: Role | None = None,
) -> Source:
    """Chosen pictures of one part."""
    present = set(labels[chosen].tolist())
    for number in (*task.normal, *(task.abnormal if split != TRAIN else ())):
        if number not in present:
            raise DatasetError(f"part {split}: no picture of class {layout.classes[number]}")
    kinds = [int(label) for label in labels[chosen]]
    names = [f"{split}-{number:05d}" for number in chosen]
    return Source(
        pixels=images[chosen][:, None].astype(np.float32) / np.float32(255),
        is_stack=False,
        patients=names,
        studies=names,
        labels=[int(kind in task.abnormal) for kind in kinds],
        findings=[layout.classes[kind] if kind in task.abnormal else "" for kind in kinds],
        split=split,
        roles=[role] * len(names),
    )


def picture_label(text: str, where: str) -> int | None:
    """0, 1, or None for an empty entry."""
    if text.strip() in {"0", "1", ""}:
        return int(text) if text.strip() else None
    raise DatasetError(f"{where}: label {text!r} is neither 0 (normal), 1 (abnormal) nor empty")

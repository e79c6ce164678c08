"""Training data: volumes of one role on the model grid, augmented slices, and the toy set that selects."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.artefact import InputContract
from models.evaluation.dataset import DataRecord, Role, read_nifti
from models.predictor import context_slices, slice_position
from models.preprocess import Prepared, clean_voxels, extent_mm, prepare, survey, tissue_mask
from models.volume import Volume

TOYS_A_SUBJECT = 3
TOY_RADIUS_MM = (5.0, 16.0)
TOY_CONTRAST_SD = (1.0, 3.0)


def read_role(record: DataRecord, folder: Path, role: Role) -> tuple[Volume, ...]:
    """Volumes of one role, in the order of the data record."""
    return tuple(read_nifti(folder / entry.file) for entry in record.of_role(role))


def fit_contract(volumes: Sequence[Volume], start: InputContract) -> InputContract:
    """The contract with reference box and intensity landmarks measured on the training volumes.

    Landmarks are the mean percentiles after each volume was divided by its own 90th.
    """
    widths, lengths, landmarks = [], [], []
    for volume in volumes:
        overview, affine = survey(volume)
        low, high = extent_mm(tissue_mask(overview), affine)
        widths.append(high[0] - low[0])
        lengths.append(high[1] - low[1])
        voxels = clean_voxels(volume)
        inside = voxels[tissue_mask(voxels)]
        landmarks.append(
            np.percentile(inside, start.landmark_percentiles)
            / np.percentile(inside, 90)
            * start.landmark_values[-1]
        )
    return start.model_copy(
        update={
            "brain_width_mm": round(float(np.mean(widths)), 2),
            "brain_length_mm": round(float(np.mean(lengths)), 2),
            "landmark_values": tuple(round(float(v), 4) for v in np.mean(landmarks, axis=0)),
        }
    )


class SlicePool:
    """Slices of augmented volumes, drawn at random; the same seed draws the same slices.

    Parameters
    ----------
    subjects : sequence of Prepared
    context : tuple of int
        Slice offsets that become channels.
    seed : int
    refresh : int
        Draws after which one volume is augmented anew.
    """

    def __init__(
        self, subjects: Sequence[Prepared], *, context: tuple[int, ...], seed: int, refresh: int
    ) -> None:
        self._subjects = subjects
        self._context = context
        self._refresh = refresh
        self._rng = np.random.default_rng(seed)
        self._volumes = [augment(subject.voxels, self._rng) for subject in subjects]
        self._filled = [_filled_slices(voxels) for voxels in self._volumes]
        self._draws = 0

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """(batch, context, rows, columns) and slice positions (batch,)."""
        self._draws += 1
        if self._draws % self._refresh == 0:
            turn = (self._draws // self._refresh) % len(self._subjects)
            self._volumes[turn] = augment(self._subjects[turn].voxels, self._rng)
            self._filled[turn] = _filled_slices(self._volumes[turn])
        slices, positions = [], []
        for _ in range(batch):
            number = int(self._rng.integers(len(self._volumes)))
            voxels = self._volumes[number]
            index = self._rng.choice(self._filled[number], 1)
            slices.append(context_slices(voxels, index, self._context))
            positions.append(slice_position(index, len(voxels)))
        return torch.from_numpy(np.concatenate(slices)), torch.from_numpy(np.concatenate(positions))


def _filled_slices(voxels: NDArray[np.float32]) -> NDArray[np.intp]:
    """Slices that hold tissue."""
    return np.flatnonzero((voxels > 0).any(axis=(1, 2)))


def augment(voxels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Mirrored, slightly turned, scaled, shifted, and with slightly other contrast and a smooth bias.

    The changes stay within what box alignment leaves between people, and what coils and protocols do.
    """
    angles = rng.normal(0, np.deg2rad(3.0), 3)
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    matrix = turn @ np.diag(rng.normal(1, 0.025, 3))
    if rng.random() < 0.5:  # noqa: PLR2004 - half of them
        matrix = matrix @ np.diag([1.0, 1.0, -1.0])
    centre = (np.array(voxels.shape) - 1) / 2
    offset = centre - matrix @ centre + rng.normal(0, 1.0, 3)
    moved = ndimage.affine_transform(voxels, matrix, offset, order=1, mode="constant")
    nodes = rng.normal(0, 0.04, (3, 3, 3))
    bias = ndimage.zoom(nodes, np.array(voxels.shape) / 3, order=1, grid_mode=True, mode="nearest")
    shaped = np.power(np.maximum(moved, 0), rng.uniform(0.9, 1.1)) * (1 + bias) * rng.uniform(0.95, 1.05)
    return np.where(moved > 0.02, shaped, 0.0).astype(np.float32)  # noqa: PLR2004 - rim left by interpolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """One selection case on the model grid: voxels with a toy lesion, brain, and the lesion's voxels."""

    voxels: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def toy_set(subjects: Sequence[Prepared], seed: int) -> tuple[Toy, ...]:
    """Balls and boxes, half with a soft edge, of random size and contrast (methods section 5.3).

    Made on the model grid by another rule than ``evaluation.lesions``, so that what is chosen with them
    is not chosen for the lesions it is reported on.
    """
    rng = np.random.default_rng(seed)
    toys = []
    for subject in subjects:
        depth = ndimage.distance_transform_edt(subject.mask)
        deviation = float(subject.voxels[subject.mask].std())
        for _ in range(TOYS_A_SUBJECT):
            radius = rng.uniform(*TOY_RADIUS_MM) / subject.spacing_mm[0]
            places = np.argwhere(depth >= 0.7 * radius)
            centre = places[rng.integers(len(places))]
            away = np.abs(np.indices(subject.voxels.shape) - centre[:, None, None, None])
            is_ball = rng.random() < 0.5  # noqa: PLR2004 - half of them
            distance = np.sqrt((away**2).sum(axis=0)) if is_ball else away.max(axis=0)
            softness = rng.choice([0.5, 2.5])
            profile = np.clip((radius - distance) / softness + 0.5, 0, 1)
            contrast = rng.choice([-1, 1]) * rng.uniform(*TOY_CONTRAST_SD) * deviation
            changed = np.clip(subject.voxels + contrast * profile, 0.02, None)
            toys.append(
                Toy(
                    voxels=np.where(subject.mask, changed, 0).astype(np.float32),
                    brain=subject.mask,
                    lesion=(profile >= 0.5) & subject.mask,  # noqa: PLR2004 - half contrast
                )
            )
    return tuple(toys)


def prepare_all(volumes: Sequence[Volume], contract: InputContract) -> tuple[Prepared, ...]:
    """Volumes on the model grid."""
    return tuple(prepare(volume, contract) for volume in volumes)

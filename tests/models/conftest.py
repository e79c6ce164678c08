"""A brain-like phantom defined in patient millimetres, sampled on any grid."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models.volume import Volume

CENTRE_MM = np.array([3.0, -8.0, 12.0])
HALF_AXES_MM = np.array([67.0, 81.0, 68.0])

# Columns are the patient directions (LPS) of slice, row and column index.
AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=float)
SAGITTAL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float)
CORONAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=float)


def intensity(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ellipsoid of grey matter, white matter inside, two dark ventricles; (n, 3) LPS millimetres → (n,)."""
    at = (points - CENTRE_MM) / HALF_AXES_MM
    radius = np.sqrt((at**2).sum(axis=1))
    folds = np.sin(points[:, 0] / 4) * np.sin(points[:, 1] / 5) * np.sin(points[:, 2] / 4.5)
    value = np.where(radius < 0.8, 170.0, 115.0) + 12 * folds
    for side in (-1, 1):
        ventricle = (points - CENTRE_MM - np.array([side * 9.0, 0, 6.0])) / np.array([5.0, 22.0, 9.0])
        value = np.where((ventricle**2).sum(axis=1) < 1, 45.0, value)
    return np.where(radius < 1, value, 0.0)


def sample_brain(
    *,
    directions: NDArray[np.float64] = AXIAL,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    bright_mm: tuple[float, float, float] | None = None,
) -> Volume:
    """The phantom on a grid of given directions, with a bright ball of 4 mm radius at ``bright_mm``."""
    steps = directions * np.array(spacing_mm)
    half = np.abs(directions.T) @ (HALF_AXES_MM + 12)
    counts = np.ceil(2 * half / np.array(spacing_mm)).astype(int)
    origin = CENTRE_MM - steps @ ((counts - 1) / 2)
    index = np.indices(counts).reshape(3, -1)
    points = (steps @ index).T + origin
    values = intensity(points)
    if bright_mm is not None:
        values = np.where(((points - np.array(bright_mm)) ** 2).sum(axis=1) < 16, 400.0, values)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, origin
    return Volume(voxels=values.reshape(counts).astype(np.float32), spacing_mm=spacing_mm, affine=affine)


@pytest.fixture(scope="session")
def brain() -> Callable[..., Volume]:
    return sample_brain

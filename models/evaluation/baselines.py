"""What a model must beat: nothing at all, plain intensity, and principal components of normals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.aggregation import Map, core, reduce_map, smooth, top_mean
from models.artefact import Manifest, Source
from models.preprocess import Prepared

COMPONENTS = 10
PLAIN = Source(median=1, smooth_mm=3.0)


def intensity_map(prepared: Prepared, sign: int) -> Map:
    """How bright (+1) or dark (-1) each voxel is against the brain's median, on the model grid.

    The sign is given by the finding that is asked for, which favours this baseline.
    """
    smoothed = smooth(prepared.voxels, prepared, PLAIN)
    return np.asarray(sign * (smoothed - np.median(prepared.voxels[prepared.mask])), dtype=np.float32)


def study_score(values: Map, prepared: Prepared, manifest: Manifest) -> float:
    """Study score of a map by the same rule as the model's."""
    inside = core(prepared, manifest.erode_mm)
    return top_mean(values, inside, manifest.top_mm3, float(np.prod(prepared.spacing_mm)))


def keep_core(values: Map, inside: NDArray[np.bool_]) -> Map:
    """A baseline's map as the model gives its own: from 0 up, and 0 in the rim, which is not scored."""
    return np.where(inside, values - values[inside].min(), 0).astype(np.float32)


class PrincipalComponents:
    """Residual of normals' principal components on box-aligned brains (Saase et al. 2020).

    Parameters
    ----------
    normals : sequence of Prepared
        Training volumes; their mirror images are added.
    """

    def __init__(self, normals: Sequence[Prepared]) -> None:
        rows = [_flatten(p.voxels) for p in normals] + [_flatten(p.voxels[:, :, ::-1]) for p in normals]
        data = np.stack(rows)
        self._mean = data.mean(axis=0)
        self._deviation = data.std(axis=0) + 0.25 * data.std()
        scaled = (data - self._mean) / self._deviation
        self._components = np.linalg.svd(scaled, full_matrices=False)[2][:COMPONENTS]

    def residual_map(self, prepared: Prepared) -> Map:
        """Absolute residual in standard deviations on the model grid (blocks of two voxels)."""
        scaled = (_flatten(prepared.voxels) - self._mean) / self._deviation
        residual = np.abs(scaled - self._components.T @ (self._components @ scaled))
        reduced = residual.reshape([n // 2 for n in prepared.voxels.shape]).astype(np.float32)
        return smooth(reduced.repeat(2, 0).repeat(2, 1).repeat(2, 2), prepared, PLAIN)


def _flatten(voxels: Map) -> NDArray[np.float64]:
    return reduce_map(np.ascontiguousarray(voxels)).astype(np.float64).ravel()

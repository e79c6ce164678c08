"""Network maps → standardised maps → study scores → regions. Millimetres throughout, never voxels.

A map is smoothed over the volume, compared with what normals show at the same place, and kept inside the
brain without its rim. The combined map is the largest of its members, each in units of what normals reach.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.artefact import Head, Manifest, Source
from models.errors import ArtefactError, NotAssessableError, Reason, TrainingError
from models.preprocess import Prepared
from models.scores import Region
from models.scratch import IN_MEMORY, Scratch, slabs

REDUCTION = 2  # Statistics of normals are smooth; every second voxel of the grid is stored.

Map = NDArray[np.float32]


class Normals:
    """Mean and standard deviation of each smoothed map over training normals, voxel by voxel.

    Parameters
    ----------
    mean, deviation : dict of str to float32 array, shape (slices, rows, columns) / 2
        By source.
    """

    def __init__(self, mean: Mapping[str, Map], deviation: Mapping[str, Map]) -> None:
        self.mean = dict(mean)
        self.deviation = dict(deviation)

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> "Normals":
        """Read ``normals.npz``.

        Raises
        ------
        ArtefactError
            If a map is missing or not on the model grid, or a study could not be compared with it.
        """
        expected = tuple(n // REDUCTION for n in manifest.input.shape)
        mean, deviation = {}, {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for source in manifest.sources:
                    mean[source] = arrays[f"{source}_mean"].astype(np.float32)
                    deviation[source] = arrays[f"{source}_deviation"].astype(np.float32)
        except (OSError, KeyError, ValueError) as error:
            raise ArtefactError(path, f"cannot be read ({type(error).__name__}); restore it") from error
        for found in (*mean.values(), *deviation.values()):
            if found.shape != expected:
                raise ArtefactError(path, f"has shape {found.shape}, the manifest asks for {expected}")
        normals = cls(mean, deviation)
        if unusable := normals._unusable():
            raise ArtefactError(
                path, f"has no number or no deviation in {', '.join(unusable)}; train it again"
            )
        return normals

    def save(self, path: Path) -> None:
        """Write ``normals.npz``, the same bytes for the same numbers.

        Raises
        ------
        TrainingError
            If half precision holds a mean or a deviation of a map as infinite, or a deviation as nothing.
        """
        # Half precision is far finer than the statistics of some twenty volumes, and ends at 65504.
        with np.errstate(over="ignore", under="ignore"):
            halves = Normals(_as_halves(self.mean), _as_halves(self.deviation))
        if unusable := halves._unusable():
            raise TrainingError(f"The map {', '.join(unusable)} of normals is beyond 65504 or does not vary.")
        arrays = {f"{name}_mean": values for name, values in halves.mean.items()}
        arrays |= {f"{name}_deviation": values for name, values in halves.deviation.items()}
        np.savez_compressed(path, allow_pickle=False, **dict(sorted(arrays.items())))

    def _unusable(self) -> list[str]:
        """Names of maps of which a mean is no number, or a deviation neither a number nor above 0."""
        return [
            name
            for name, mean in self.mean.items()
            if not np.isfinite(mean).all()
            or not np.isfinite(self.deviation[name]).all()
            or not (self.deviation[name] > 0).all()
        ]

    def standardise(self, name: str, values: Map) -> Map:
        """Deviation from the normal mean at each place, in normal standard deviations.

        A value too large to be compared becomes infinite: whoever asks looks for it.
        """
        mean = _enlarge(self.mean[name], values.shape)
        with np.errstate(over="ignore"):
            return (values - mean) / _enlarge(self.deviation[name], values.shape)


def smooth(values: Map, prepared: Prepared, source: Source) -> Map:
    """Median, then Gaussian inside the brain; the brain's border does not draw values down.

    Parameters
    ----------
    values : float32, shape (slices, rows, columns)
        On the model grid.
    """
    if source.median > 1:
        values = ndimage.median_filter(values, size=source.median, mode="nearest")
    inside = prepared.mask.astype(np.float32)
    sigma = [source.smooth_mm / step for step in prepared.spacing_mm]
    weight = ndimage.gaussian_filter(inside, sigma, mode="constant")
    blurred = ndimage.gaussian_filter(values * inside, sigma, mode="constant")
    with np.errstate(over="ignore"):  # found when the maps are compared
        return np.where(prepared.mask, blurred / np.maximum(weight, 1e-3), 0).astype(np.float32)


def core(prepared: Prepared, erode_mm: float) -> NDArray[np.bool_]:
    """The brain without its outermost ``erode_mm``."""
    if erode_mm == 0:
        return prepared.mask
    padded = np.pad(prepared.mask, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=prepared.spacing_mm)[1:-1, 1:-1, 1:-1]
    return np.asarray(depth > erode_mm, dtype=np.bool_)


def head_map(standardised: Map, head: Head, inside: NDArray[np.bool_]) -> Map:
    """The part of a standardised map that speaks for this head: not negative, 0 outside ``inside``."""
    return np.where(inside, np.maximum(head.sign * standardised, 0), 0).astype(np.float32)


def top_mean(values: Map, inside: NDArray[np.bool_], top_mm3: float, voxel_mm3: float) -> float:
    """Mean over the highest ``top_mm3`` of tissue; of all of it where there is less.

    Raises
    ------
    NotAssessableError
        WRONG_EXTENT if there is no tissue: of nothing there is no score, and none that is calm.
    """
    found = values[inside]
    if found.size == 0:
        raise NotAssessableError(Reason.WRONG_EXTENT, "Nothing is left of the brain without its rim.")
    count = min(max(1, round(top_mm3 / voxel_mm3)), found.size)
    return float(np.partition(found, found.size - count)[found.size - count :].astype(np.float64).mean())


def combine(maps: Mapping[str, Map], levels: Mapping[str, float]) -> Map:
    """Largest member at each voxel, each divided by the level that normals reach in it."""
    members = [maps[name] / np.float32(level) for name, level in sorted(levels.items())]
    return np.asarray(np.maximum.reduce(members), dtype=np.float32)


def find_regions(
    values: Map,
    threshold: float,
    *,
    affine: NDArray[np.float64],
    voxel_mm3: float,
    min_mm3: float,
    scratch: Scratch = IN_MEMORY,
) -> tuple[Region, ...]:
    """Connected parts at or above ``threshold``, largest peak first.

    Parameters
    ----------
    values : float32, shape (slices, rows, columns)
        Map on the source grid, 0 to 1.
    affine : float64, shape (4, 4)
        Voxel index to patient millimetres, LPS.
    min_mm3 : float
        Smaller parts are left out.
    scratch : Scratch
        Where the map is kept.
    """
    above = scratch.zeros(values.shape, np.bool_)
    for part in slabs(values.shape):
        above[part] = values[part] >= threshold
    labels = scratch.zeros(values.shape, np.int32)
    ndimage.label(above, structure=np.ones((3, 3, 3)), output=labels)
    regions = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == number
        volume_mm3 = float(part.sum()) * voxel_mm3
        if volume_mm3 < min_mm3:
            continue
        inside = np.where(part, values[box], 0)
        start = np.array([edge.start for edge in box])
        index = np.array(ndimage.center_of_mass(inside)) + start
        x, y, z = affine[:3, :3] @ index + affine[:3, 3]
        peak = np.unravel_index(int(np.argmax(inside)), inside.shape)
        regions.append(
            Region(
                volume_mm3=volume_mm3,
                peak=float(inside.max()),
                mean=float(inside[part].mean()),
                centre_mm=(float(x), float(y), float(z)),
                slice_index=int(peak[0] + start[0]),
            )
        )
    return tuple(sorted(regions, key=lambda region: (-region.peak, region.slice_index, region.centre_mm)))


def reduce_map(values: Map) -> Map:
    """Mean of each block of ``REDUCTION`` voxels along every axis: the grid on which statistics are kept."""
    slices, rows, columns = (n // REDUCTION for n in values.shape)
    blocks = values.reshape(slices, REDUCTION, rows, REDUCTION, columns, REDUCTION)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def _as_halves(maps: Mapping[str, Map]) -> dict[str, NDArray[np.floating]]:
    return {name: values.astype(np.float16) for name, values in maps.items()}


def _enlarge(values: Map, shape: tuple[int, ...]) -> Map:
    """Back to the model grid, linear between block centres."""
    return np.asarray(
        ndimage.zoom(values, np.array(shape) / values.shape, order=1, mode="nearest", grid_mode=True),
        dtype=np.float32,
    )

"""Is this even the kind of image the model knows? Asked of the pixels, whatever the header says.

A volume on the model grid is compared with the mean of the training normals, which every volume model has
beside it. The image of any brain of the same sequence follows that mean, in its large shapes and in its finer
structure; another sequence, an inverted or turned image, noise, or another organ follows it in neither.
Both must fail before a volume is refused: a very large lesion spoils the one and leaves the other.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.aggregation import Map, reduce_map
from models.errors import NotAssessableError, Reason
from models.preprocess import Prepared

# Correlations with the training mean. T1 brains of its own scanner: 0.81 to 0.90 and 0.64 to 0.75; of another
# scanner, with multiple sclerosis: 0.58 and 0.56; their FLAIR: 0.29 to 0.37 and 0.10 to 0.19; their T2, an
# inverted T1, noise in the shape of a brain: all below 0.50 and 0.08.
LEAST_COARSE = 0.55
LEAST_FINE = 0.25
FINE_VOXELS = 4.0  # Of the reduced grid; a Gaussian this wide takes the large shapes away.
LEAST_INTENSITY = 0.05  # Of the mean; below it there was no brain in training.
LEAST_TISSUE = 0.9  # Share of a reduced voxel that is tissue.


def likeness(prepared: Prepared, mean: Map) -> tuple[float, float]:
    """Correlation with the mean of training normals: of the image, and of its finer structure.

    Parameters
    ----------
    prepared : Prepared
    mean : float32, shape (slices, rows, columns) / 2
        Of the normalised volumes, as kept in ``normals.npz``.

    Returns
    -------
    coarse, fine : float
        -1 to 1; 0 where there is nothing to compare.
    """
    found = reduce_map(prepared.voxels)
    inside = (reduce_map(prepared.mask.astype(np.float32)) > LEAST_TISSUE) & (mean > LEAST_INTENSITY)
    return _correlation(found[inside], mean[inside]), _correlation(_fine(found)[inside], _fine(mean)[inside])


def check_likeness(prepared: Prepared, mean: Map) -> None:
    """Pass, or say that the volume is none of the kind the model knows.

    Raises
    ------
    NotAssessableError
        UNLIKE_TRAINING.
    """
    coarse, fine = likeness(prepared, mean)
    if coarse < LEAST_COARSE and fine < LEAST_FINE:
        raise NotAssessableError(
            Reason.UNLIKE_TRAINING,
            f"It follows the mean of the training images by {coarse:.2f} and {fine:.2f}; "
            f"{LEAST_COARSE:g} or {LEAST_FINE:g} is the least.",
        )


def _fine(values: Map) -> Map:
    return values - ndimage.gaussian_filter(values, FINE_VOXELS)


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    if first.size == 0:
        return 0.0
    centred = first.astype(np.float64) - first.mean(), second.astype(np.float64) - second.mean()
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / size) if size > 0 else 0.0

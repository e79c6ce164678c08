"""Properties of a picture that should not tell normal from abnormal, but may.

They are measured on the native pixels without padding, before any preparation, and every table of results
has a row for each of them: a model that does no better has found the shortcut.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.placing import padding_box

SMALLEST_CONTRAST = 1e-6  # Of a constant slice, whose sharpness is 0.


def measure(
    pixels: NDArray[np.float32], original_shape: tuple[int, int] | None
) -> dict[str, NDArray[np.float64]]:
    """Covariates of pictures of one shape.

    Parameters
    ----------
    pixels : float32, shape (pictures, channels, rows, columns)
        Native, in [0, 1].
    original_shape : tuple of int, optional
        Rows and columns before padding.

    Returns
    -------
    dict of str to float64, shape (pictures,)
        ``aspect_ratio``: width by height of the original; ``contrast``: standard deviation of the
        brightness; ``sharpness``: standard deviation of the Laplacian, in units of the contrast.
    """
    rows, columns = original_shape or (pixels.shape[2], pixels.shape[3])
    grey = pixels.mean(axis=1)
    if original_shape is not None:
        top, bottom, left, right = padding_box((grey.shape[1], grey.shape[2]), original_shape)
        grey = grey[:, top:bottom, left:right]
    contrast = grey.std(axis=(1, 2), dtype=np.float64)
    curvature = np.zeros_like(grey)
    for axis in (1, 2):
        curvature += ndimage.correlate1d(grey, (1.0, -2.0, 1.0), axis=axis, mode="nearest")
    sharpness = curvature.std(axis=(1, 2), dtype=np.float64) / np.maximum(contrast, SMALLEST_CONTRAST)
    return {
        "aspect_ratio": np.full(len(grey), columns / rows),
        "contrast": contrast,
        "sharpness": sharpness,
    }

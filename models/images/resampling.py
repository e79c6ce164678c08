"""Bringing planes to another size without aliasing."""

import numpy as np
from numpy.typing import NDArray


def resampling_weights(source: int, target: int) -> NDArray[np.float32]:
    """Weights of a triangle filter that is widened where it shrinks, shape (target, source).

    The filter of Pillow's ``BILINEAR``: linear interpolation when enlarging, no aliasing when shrinking.
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(source)[None] - centres[:, None]) / support)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def resampled(planes: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Planes (..., rows, columns) at another number of rows and columns."""
    down = resampling_weights(planes.shape[-2], shape[0])
    across = resampling_weights(planes.shape[-1], shape[1])
    return np.asarray(down @ planes @ across.T, dtype=np.float32)

"""Figures of reconstructions: how far they are from the picture, and whether anomalies stand out at all."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HISTOGRAM_BINS = 256
SSIM_SIGMA = 1.5  # Pixels; Wang et al. 2004, as are the two constants.
SSIM_REACH = 5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2

Plane = NDArray[np.float32]


def l1_errors(
    picture: Plane, reconstruction: Plane, mask: NDArray[np.bool_], lesion: NDArray[np.bool_]
) -> tuple[float, float]:
    """Mean absolute error on normal and on abnormal pixels of the mask; NaN where there are none."""
    error = np.abs(picture.astype(np.float64) - reconstruction)
    normal, abnormal = error[mask & ~lesion], error[mask & lesion]
    return (
        float(normal.mean()) if normal.size else float("nan"),
        float(abnormal.mean()) if abnormal.size else float("nan"),
    )


def residual_distance(normal: NDArray[np.float32], abnormal: NDArray[np.float32]) -> float:
    """Chi-squared distance of two sets of residuals in [0, 1].

    The sum of (a - b)² / (a + b) over normalised histograms, without exact zeros: 0 for equal distributions,
    2 for separate ones.
    """
    shares = []
    for values in (normal, abnormal):
        counts, _ = np.histogram(values[values != 0], bins=HISTOGRAM_BINS, range=(0, 1))
        if not counts.sum():
            return float("nan")
        shares.append(counts / counts.sum())
    first, second = shares
    both = first + second
    return float(((first - second)[both > 0] ** 2 / both[both > 0]).sum())


def structural_similarity(picture: Plane, reconstruction: Plane) -> float:
    """Mean SSIM of two planes in [0, 1] with a Gaussian window of 11 pixels (Wang et al. 2004).

    Places whose window leaves the picture do not count.
    """

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, SSIM_SIGMA, radius=SSIM_REACH)

    first, second = picture.astype(np.float64), reconstruction.astype(np.float64)
    first_mean, second_mean = mean(first), mean(second)
    first_variance = mean(first * first) - first_mean**2
    second_variance = mean(second * second) - second_mean**2
    covariance = mean(first * second) - first_mean * second_mean
    similarity = (2 * first_mean * second_mean + LUMINANCE) * (2 * covariance + CONTRAST)
    similarity /= (first_mean**2 + second_mean**2 + LUMINANCE) * (first_variance + second_variance + CONTRAST)
    inside = similarity[SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]
    return float(inside.mean())

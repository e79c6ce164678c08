import numpy as np
import pytest
from scipy import ndimage

from models.images.covariates import measure

NOISE = np.random.default_rng(2).random((1, 1, 64, 64), dtype=np.float32)


def test_a_blurred_picture_is_less_sharp_and_a_dimmed_one_is_not() -> None:
    blurred = ndimage.gaussian_filter(NOISE, (0, 0, 1, 1))

    assert measure(blurred, None)["sharpness"][0] < 0.5 * measure(NOISE, None)["sharpness"][0]
    assert measure(NOISE / 3, None)["sharpness"][0] == pytest.approx(measure(NOISE, None)["sharpness"][0])
    assert measure(NOISE / 3, None)["contrast"][0] == pytest.approx(NOISE.std() / 3, rel=1e-4)


def test_padding_changes_nothing_where_the_size_before_is_known() -> None:
    padded = np.zeros((1, 1, 64, 64), np.float32)
    padded[:, :, 16:48] = NOISE[:, :, :32]

    seen = measure(padded, (300, 600))

    assert seen["aspect_ratio"][0] == 2
    assert seen["contrast"][0] == pytest.approx(NOISE[:, :, :32].std(), rel=1e-4)


def test_an_empty_slice_has_no_sharpness() -> None:
    assert measure(np.zeros((1, 1, 8, 8), np.float32), None)["sharpness"].tolist() == [0]

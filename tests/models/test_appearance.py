from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from models.appearance import NAMES, appearance
from models.volume import Volume

Brain = Callable[..., Volume]


def noisy(volume: Volume, deviation: float) -> Volume:
    noise = np.random.default_rng(0).normal(scale=deviation, size=volume.voxels.shape)
    return replace(volume, voxels=np.where(volume.voxels > 0, volume.voxels + noise, 0).astype(np.float32))


def test_the_unit_of_the_intensities_makes_no_difference(brain: Brain) -> None:
    volume = noisy(brain(), 3.0)
    other = replace(volume, voxels=volume.voxels * 7 - 1024)

    assert appearance(other) == pytest.approx(appearance(volume), rel=1e-3)


@pytest.fixture(scope="module")
def flat() -> Volume:
    voxels = np.zeros((20, 80, 80), np.float32)
    voxels[:, 10:70, 10:70] = 200.0
    return Volume(voxels=voxels, spacing_mm=(2, 1, 1), affine=np.diag([2.0, 1, 1, 1]))


def test_noise_is_measured_as_a_share_of_the_brightest_tissue(flat: Volume) -> None:
    # 98 % of it lie below two deviations above 200.
    assert appearance(noisy(flat, 4.0))["noise"] == pytest.approx(4 / 208, rel=0.05)


def test_a_smoother_reconstruction_is_less_sharp_and_has_less_noise(flat: Volume) -> None:
    volume = noisy(flat, 20.0)
    smooth = replace(volume, voxels=ndimage.gaussian_filter(volume.voxels, (0, 1, 1)))

    before, after = appearance(volume), appearance(smooth)

    assert after["sharpness"] < 0.8 * before["sharpness"]
    assert after["noise"] < 0.2 * before["noise"]


def test_spacing_is_named_and_sharpness_is_per_millimetre(brain: Brain) -> None:
    volume = brain()
    wide = replace(volume, spacing_mm=(2.0, 4.0, 4.0))

    found = appearance(wide)

    assert (found["slice_mm"], found["pixel_mm"]) == (2.0, 4.0)
    assert found["sharpness"] == pytest.approx(appearance(volume)["sharpness"] / 2, rel=1e-5)


def test_an_empty_or_broken_volume_has_numbers_too() -> None:
    for voxels in (np.zeros((3, 8, 8)), np.full((1, 8, 8), np.nan)):
        volume = Volume(voxels=voxels.astype(np.float32), spacing_mm=(1, 1, 1), affine=np.eye(4))
        found = appearance(volume)
        assert set(found) == set(NAMES)
        assert all(np.isfinite(value) for value in found.values())


def test_padding_is_no_image(brain: Brain) -> None:
    volume = brain()
    air = volume.voxels == 0
    padded = replace(volume, voxels=np.where(air, -2000, volume.voxels).astype(np.float32), padding=air)

    # Were it one, two thousand steps to the air would outweigh all that is in the brain.
    assert appearance(padded)["contrast"] > 0.2

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.picture_baselines import (
    PictureComponents,
    baselines,
    constant,
    equalised_intensity,
    intensity,
    mean_intensity,
    shortcut,
    top_share,
)
from models.images.collection import read_collection
from models.images.picture import Picture

MakePicture = Callable[..., Picture]


def test_top_share_is_the_mean_of_the_highest_masked_values() -> None:
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    mask = values < 60

    assert top_share(values, mask, 0.05) == 58  # 57, 58, 59
    assert top_share(values, mask, 1.0) == 29.5
    assert top_share(values, np.zeros_like(mask)) == 0


def test_constant_says_the_same_of_everything(make_picture: MakePicture) -> None:
    found = constant([make_picture(np.eye(8)), make_picture(np.ones((8, 8)))])

    assert found.study == 0
    assert not found.slices.any()
    assert found.maps is not None
    assert not found.maps.any()


def test_intensities_count_the_mask_alone(make_picture: MakePicture) -> None:
    pixels = np.linspace(0, 1, 64).reshape(8, 8)
    mask = pixels < 0.5
    picture = make_picture(pixels, mask=mask)

    assert mean_intensity([picture]).study == pytest.approx(pixels[mask].mean())
    assert intensity([picture]).study == pytest.approx(np.sort(pixels[mask])[-2:].mean())
    assert intensity([picture]).maps is not None
    np.testing.assert_allclose(intensity([picture]).maps[0], pixels * mask, atol=1e-7)


def test_equalised_intensity_is_blind_to_gamma(make_picture: MakePicture) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.random((32, 32))
    plain, bent = (equalised_intensity([make_picture(values)]) for values in (pixels, pixels**0.5))

    assert plain.maps is not None
    assert bent.maps is not None
    np.testing.assert_allclose(plain.maps, bent.maps, atol=0.03)
    assert plain.maps.max() == pytest.approx(1)


def test_components_explain_normals_and_show_what_is_new(make_picture: MakePicture) -> None:
    rng = np.random.default_rng(0)
    bases = rng.random((3, 16, 16))
    normals = [make_picture(np.tensordot(rng.random(3), bases, 1)) for _ in range(20)]
    model = PictureComponents(normals)
    unseen = np.tensordot([0.3, 0.9, 0.1], bases, 1)
    changed = unseen.copy()
    changed[4:7, 5:8] += 2

    assert model([make_picture(unseen)]).study == pytest.approx(0, abs=1e-3)
    found = model([make_picture(changed)])
    assert found.maps is not None
    highest = found.maps[0] >= np.sort(found.maps[0].ravel())[-9]
    assert highest[4:7, 5:8].all()


def test_the_middle_of_a_stack_counts_as_abnormal(make_picture: MakePicture) -> None:
    stack = [
        make_picture(np.eye(4), index=i, covariates={"slice_position": at})
        for i, at in enumerate((0, 0.5, 1))
    ]
    np.testing.assert_allclose(shortcut("slice_position")(stack).slices, [0, 1, 0])
    np.testing.assert_allclose(shortcut("sharpness")(stack).slices, 0)


def test_properties_that_are_the_same_everywhere_have_no_row(lesion_folder: Path) -> None:
    found = baselines(read_collection(lesion_folder))

    assert {"constant", "mean_intensity", "intensity", "equalised", "pca", "sharpness", "contrast"} == set(
        found
    )

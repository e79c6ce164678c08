import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.images.contract import (
    AlignMidline,
    CropContent,
    CropDisc,
    CropPadding,
    ImageContract,
    MirrorLeftEyes,
    Step,
)
from models.images.picture import map_to_native
from models.images.placing import padding_box
from models.images.resampling import resampling_weights
from models.images.steps import prepare


def smooth(rows: int, columns: int) -> NDArray[np.float32]:
    """A smooth bright body, different left and right and above and below."""
    row, column = np.mgrid[:rows, :columns].astype(np.float32)
    body = np.exp(
        -(((row - 0.45 * rows) / (0.22 * rows)) ** 2) - ((column - 0.6 * columns) / (0.2 * columns)) ** 2
    )
    return body.astype(np.float32)


def contract(*steps: Step, size: tuple[int, int] = (48, 48), **fields: object) -> ImageContract:
    return ImageContract.model_validate({"size": size, "steps": steps, **fields})


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (CropContent(margin=0.1),),
        (CropPadding(),),
        (MirrorLeftEyes(),),
        (CropContent(), MirrorLeftEyes()),
        (AlignMidline(),),
    ],
)
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_what_was_moved_finds_its_way_back(steps: tuple[Step, ...], fit: str) -> None:
    native = smooth(60, 80)
    made = prepare(
        native[None, None], contract(*steps, fit=fit, mask="content"), original_shape=None, is_left_eye=True
    )

    back = map_to_native(made.pixels[0, 0], made.grid, native.shape)

    kept = map_to_native(made.mask[0].astype(np.float32), made.grid, native.shape) > 0.5
    inside = ndimage.binary_erosion(kept, iterations=4)  # away from the mask's cut edge
    assert inside.sum() > 300
    np.testing.assert_allclose(back[inside], native[inside], atol=0.06)


def test_padding_keeps_proportions_and_is_not_assessed() -> None:
    made = prepare(np.ones((1, 1, 30, 60), np.float32), contract(size=(40, 40)))

    assert made.mask[0].sum() == 20 * 40
    assert made.mask[0, 10:30].all()
    assert made.pixels[0, 0][~made.mask[0]].max() == 0


def test_shrinking_averages_over_area() -> None:
    fine = np.tile(np.array([0.0, 1.0], np.float32), 32)[None].repeat(64, axis=0)

    made = prepare(fine[None, None], contract(size=(16, 16)))

    assert abs(made.pixels[0, 0, 2:-2, 2:-2] - 0.5).max() < 0.03


def test_resampling_weights_keep_the_mean() -> None:
    for source, target in ((28, 32), (160, 96), (7, 7)):
        np.testing.assert_allclose(resampling_weights(source, target).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(resampling_weights(7, 7), np.eye(7))


def test_padding_of_a_known_size_is_cut_where_it_was_added() -> None:
    assert padding_box((256, 256), (957, 821)) == (0, 256, 18, 238)

    padded = np.zeros((1, 1, 64, 64), np.float32)
    padded[..., 16:48, :] = 0.5
    padded[..., 30, 30] = 0.0  # black inside the picture stays
    made = prepare(padded, contract(CropPadding(), size=(32, 64), fit="stretch"), original_shape=(500, 1000))

    assert made.pixels[0, 0, 14, 30] == 0
    assert np.median(made.pixels) == 0.5


def test_padding_of_unknown_size_is_found_by_its_blackness() -> None:
    padded = np.zeros((1, 1, 64, 64), np.float32)
    padded[..., :, 10:50] = smooth(64, 40) + 0.1

    made = prepare(padded, contract(CropPadding(), size=(64, 40), fit="stretch"))

    np.testing.assert_allclose(made.pixels[0, 0], smooth(64, 40) + 0.1, atol=1e-5)


@pytest.mark.parametrize("angle", [-18.0, -6.0, 9.0, 21.0])
def test_a_turned_head_is_brought_upright(angle: float) -> None:
    row, column = np.mgrid[:96, :96].astype(np.float32)
    upright = (((row - 48) / 40) ** 2 + ((column - 48) / 30) ** 2 <= 1).astype(np.float32) * 0.5
    upright[20:76, 46:51] = 0.9  # the midline
    upright[22:34, 40:57] = 0.2  # in front
    turned = ndimage.rotate(upright, angle, reshape=False, order=1)
    expected = prepare(upright[None, None], contract(AlignMidline(), fit="stretch"))

    made = prepare(turned[None, None], contract(AlignMidline(), fit="stretch"))

    assert np.abs(made.pixels - expected.pixels).mean() < 0.03
    left = prepare(turned[None, None], contract(CropContent(), fit="stretch", mask="tissue"))
    assert np.abs(left.pixels - expected.pixels).mean() > 0.04  # as it would be without


def test_the_rim_of_a_fundus_is_not_assessed() -> None:
    row, column = np.mgrid[:80, :100]
    disc = (row - 40) ** 2 + (column - 45) ** 2 <= 30**2
    photograph = np.where(disc, 0.5, 0.0).astype(np.float32)

    made = prepare(photograph[None, None], contract(CropDisc(rim=0.1), size=(60, 60)))

    assert made.mask[0, 30, 30]
    assert not made.mask[0, 30, 1]  # in the rim
    assert abs(made.mask.mean() - np.pi / 4 * 0.9**2) < 0.03

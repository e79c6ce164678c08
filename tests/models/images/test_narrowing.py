import numpy as np
from numpy.typing import NDArray

from models.images.contract import ErodeMask, ImageContract, InsideSkull, Step
from models.images.steps import prepare


def contract(*steps: Step) -> ImageContract:
    return ImageContract(size=(96, 96), steps=steps, mask="content")


def head_ct() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A head with bone, brain, and blood as bright as bone that touches it; and the inside of the skull."""
    row, column = np.mgrid[:96, :96]
    away = np.hypot((row - 48) / 42, (column - 48) / 36)
    pixels = np.where(away < 1, 0.2, 0.0)
    pixels[away < 0.95] = 0.95
    inside = away < 0.82
    pixels[inside] = 0.4
    pixels[inside & (np.hypot(row - 48, column - 26) < 9)] = 0.9
    return pixels.astype(np.float32)[None, None], inside


def test_the_inside_of_the_skull_holds_the_blood_and_no_bone() -> None:
    pixels, inside = head_ct()

    made = prepare(pixels, contract(InsideSkull(rim=0.01)))

    assert not (made.mask[0] & ~inside).any()
    assert made.mask[0].sum() > 0.9 * inside.sum()
    assert made.mask[0][48, 24]  # blood
    assert made.pixels[0, 0][~made.mask[0]].max() == 0


def test_a_picture_with_nothing_inside_keeps_its_mask() -> None:
    line = np.zeros((1, 1, 96, 96), np.float32)
    line[..., 40, 10:80] = 1

    for pixels in (line, np.zeros_like(line)):
        whole = prepare(pixels, contract())
        made = prepare(pixels, contract(InsideSkull()))
        np.testing.assert_array_equal(made.mask, whole.mask)


def test_an_eroded_mask_is_smaller_by_its_rim() -> None:
    square = np.zeros((1, 1, 96, 96), np.float32)
    square[..., 6:26, 6:26] = 0.5

    made = prepare(square, contract(ErodeMask(pixels=2)))

    assert made.mask.sum() == 16 * 16
    assert made.pixels[0, 0][~made.mask[0]].max() == 0

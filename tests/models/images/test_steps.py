import numpy as np
import pytest

from models.images.contract import ImageContract, PercentileScale, Resize
from models.images.steps import prepare


def test_colour_becomes_grey_for_a_contract_with_one_channel() -> None:
    colours = np.stack([np.full((16, 16), value, np.float32) for value in (0.0, 0.3, 0.6)])[None]

    made = prepare(colours, ImageContract(size=(16, 16)))

    assert made.pixels.shape == (1, 1, 16, 16)
    assert made.pixels.mean() == pytest.approx(0.3)


def test_a_grey_picture_is_refused_where_colour_is_expected() -> None:
    with pytest.raises(ValueError, match="1 channels, the contract has 3"):
        prepare(np.ones((1, 1, 16, 16), np.float32), ImageContract(size=(16, 16), channels=3))


def test_a_contract_that_places_no_resize_resizes_last() -> None:
    pixels = np.random.default_rng(1).random((1, 1, 40, 40), dtype=np.float32)

    last = prepare(pixels, ImageContract(size=(16, 16), steps=(PercentileScale(),)))
    placed = prepare(pixels, ImageContract(size=(16, 16), steps=(PercentileScale(), Resize())))
    first = prepare(pixels, ImageContract(size=(16, 16), steps=(Resize(), PercentileScale())))

    np.testing.assert_array_equal(last.pixels, placed.pixels)
    assert not np.array_equal(last.pixels, first.pixels)

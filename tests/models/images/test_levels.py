import numpy as np
import pytest

from models.images.contract import (
    Equalise,
    ImageContract,
    PercentileScale,
    Step,
    SubtractLocalMean,
    TakeChannels,
    WindowNormalise,
    ZscoreClip,
)
from models.images.steps import prepare

RNG = np.random.default_rng(7)
PLANE = RNG.normal(0.5, 0.1, (2, 1, 32, 32)).astype(np.float32).clip(0.05, 0.95)


def contract(*steps: Step, **fields: object) -> ImageContract:
    return ImageContract.model_validate({"size": (32, 32), "steps": steps, **fields})


def test_percentiles_are_taken_over_the_whole_stack() -> None:
    stack = PLANE.copy()
    stack[1] *= 0.5

    made = prepare(stack, contract(PercentileScale(low=0, high=100)))

    assert (made.pixels.min(), made.pixels.max()) == (0.0, 1.0)
    assert made.pixels[1].max() < made.pixels[0].max()


@pytest.mark.parametrize("gain", [0.5, 0.9])
@pytest.mark.parametrize("step", [PercentileScale(), ZscoreClip(), Equalise(), WindowNormalise()])
def test_another_window_makes_no_difference(step: Step, gain: float) -> None:
    made = prepare(PLANE, contract(step))
    seen = prepare(PLANE * np.float32(gain) + np.float32(0.04), contract(step))

    np.testing.assert_allclose(seen.pixels, made.pixels, atol=0.02)


def test_equalised_intensities_are_uniform_inside_the_mask() -> None:
    made = prepare(PLANE, contract(Equalise()))

    counts, _ = np.histogram(made.pixels, bins=10, range=(0, 1))
    assert counts.min() > 0.9 * PLANE.size / 10


def test_the_window_puts_soft_tissue_where_it_is_told() -> None:
    made = prepare(PLANE, contract(WindowNormalise(centre=0.4, spread=0.1)))

    assert np.median(made.pixels) == pytest.approx(0.4, abs=0.005)
    assert made.pixels.std() == pytest.approx(0.1, abs=0.01)


def test_standardised_values_are_clipped_at_the_limit() -> None:
    made = prepare(PLANE, contract(ZscoreClip(limit=1.5)))

    assert (made.pixels.min(), made.pixels.max()) == (0.0, 1.0)
    assert made.pixels.mean() == pytest.approx(0.5, abs=0.02)


def test_uneven_light_is_taken_off() -> None:
    light = np.linspace(0.2, 0.6, 32, dtype=np.float32)[None, None, None].repeat(32, axis=2)
    lit = light.copy()
    lit[0, 0, 16, 16] += 0.1

    made = prepare(lit, contract(SubtractLocalMean(sigma=0.1, gain=2)))

    assert made.pixels[0, 0, 16, 16] > 0.65
    assert abs(np.delete(made.pixels[0, 0, :, 8:24], np.s_[12:21], axis=0) - 0.5).max() < 0.05


def test_channels_are_taken_in_the_order_named() -> None:
    colours = np.stack([np.full((16, 16), value, np.float32) for value in (0.1, 0.2, 0.3)])[None]

    made = prepare(colours, contract(TakeChannels(channels=(2, 0)), channels=2))

    assert made.pixels[0, :, 0, 0].tolist() == pytest.approx([0.3, 0.1])


def test_a_picture_without_contrast_is_no_division_by_zero() -> None:
    flat = np.full((1, 1, 32, 32), 0.5, np.float32)

    for step in (PercentileScale(), ZscoreClip(), Equalise(), WindowNormalise(), SubtractLocalMean()):
        assert np.isfinite(prepare(flat, contract(step)).pixels).all()


def test_equalised_intensity_is_added_as_a_channel_of_its_own() -> None:
    pixels = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    contract = ImageContract.model_validate(
        {"size": (8, 8), "channels": 2, "steps": [{"step": "append_equalised"}]}
    )
    alone = ImageContract.model_validate({"size": (8, 8), "steps": [{"step": "equalise"}]})

    found = prepare(pixels, contract).pixels

    assert np.array_equal(found[:, :1], pixels)
    assert np.array_equal(found[:, 1:], prepare(pixels, alone).pixels)

import numpy as np
import pytest

from dicom_node.results import heatmap

BANDS = (0.3, 0.5, 0.8)


def overlaid(grey: np.ndarray, values: np.ndarray) -> np.ndarray:
    return heatmap.Overlay.of(BANDS).lay(grey, heatmap.levels(values))


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours (IEC 61966-2-1, CIE 15)."""
    share = colours.astype(float) / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_a_higher_value_is_always_lighter_so_that_hue_is_never_needed() -> None:
    steps = np.diff(lightness(heatmap.TABLE)[::8])
    assert (steps > 0).all()
    assert steps[1:].max() < 3 * steps[1:].min()  # evenly, but for the first step out of black


def test_below_half_of_the_lowest_band_the_slice_is_untouched() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    picture = overlaid(grey, np.full((8, 8), 0.1499, np.float32))
    assert np.array_equal(picture, np.repeat(grey[..., np.newaxis], 3, axis=2))


def test_in_a_band_colour_shows_and_the_slice_below_it_too() -> None:
    values = np.full((1, 2), 0.9, np.float32)
    dark, bright = overlaid(np.array([[0, 200]], np.uint8), values)[0]
    assert dark[0] > dark[2] + 50  # orange
    assert (bright > dark).all()


def test_below_its_onset_an_overlay_changes_no_grey_and_from_there_on_it_does() -> None:
    overlay = heatmap.Overlay.of(BANDS)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], 3, axis=1)
    for level in range(overlay.onset):
        np.testing.assert_array_equal(overlay.mixed[level], greys)
    assert (overlay.mixed[overlay.onset + 5] != greys).any()
    assert overlay.onset == round(0.15 * 255 + 0.5)  # half of the lowest band


def test_values_below_nothing_show_as_nothing() -> None:
    grey = np.full((1, 2), 50, np.uint8)
    picture = overlaid(grey, np.array([[0.0, -1.0]], np.float32))
    assert (picture == 50).all()


def test_window_spans_black_to_white_and_a_flat_one_does_not_divide_by_zero() -> None:
    voxels = np.array([-10.0, 0.0, 50.0, 100.0, 110.0], np.float32)
    assert heatmap.window(voxels, 0.0, 100.0).tolist() == [0, 0, 128, 255, 255]
    assert heatmap.window(voxels, 50.0, 50.0).tolist() == [0] * 5


@pytest.mark.parametrize(("value", "row"), [(1.0, 0), (0.0, 100), (0.25, 75)])
def test_marks_stand_beside_their_colour_on_the_bar(value: float, row: int) -> None:
    bar = heatmap.colour_bar(101, 3)
    assert heatmap.bar_row(value, 101) == row
    assert bar[row, 0].tolist() == heatmap.colours(np.array([value]))[0].tolist()

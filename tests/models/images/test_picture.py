import numpy as np
import pytest
from numpy.typing import NDArray

from models.images.picture import Picture, map_to_native, stack_context


def picture(index: int = 0, value: float = 0.0, *, channels: int = 1) -> Picture:
    return Picture(
        pixels=np.full((channels, 2, 2), value, dtype=np.float32),
        mask=np.ones((2, 2), dtype=np.bool_),
        patient="p",
        study="s",
        index=index,
        split="val",
        label=0,
        native_shape=(4, 4),
        grid=np.array([[2.0, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]),
    )


def ramp(rows: int, columns: int) -> NDArray[np.float32]:
    return (np.arange(rows)[:, None] + 10.0 * np.arange(columns)[None]).astype(np.float32)


def test_a_map_on_the_native_grid_is_returned_unchanged() -> None:
    plane = ramp(5, 7)

    np.testing.assert_array_equal(map_to_native(plane, np.eye(3), (5, 7)), plane)


def test_a_cropped_map_comes_back_to_its_place_with_nothing_around_it() -> None:
    grid = np.array([[1.0, 0, 2], [0, 1, 3], [0, 0, 1]])
    expected = np.zeros((8, 9), dtype=np.float32)
    expected[2:5, 3:7] = ramp(3, 4)

    np.testing.assert_allclose(map_to_native(ramp(3, 4), grid, (8, 9)), expected, atol=1e-5)


def test_a_halved_map_comes_back_linear_between_pixel_centres() -> None:
    """Prepared centres 0 and 1 lie at native 0.5 and 2.5; native 1 is a quarter of the way."""
    plane = np.array([[0, 0], [1, 1]], dtype=np.float32)

    native = picture().to_native(plane)

    np.testing.assert_allclose(native[:, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_context_repeats_the_outermost_slice_at_the_ends() -> None:
    stack = [picture(i, float(i), channels=2) for i in range(3)]

    fed = stack_context(stack, (-1, 0, 1))

    assert fed.shape == (3, 6, 2, 2)
    assert fed[:, ::2, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]


def test_a_picture_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        picture().label = 1  # type: ignore[misc]

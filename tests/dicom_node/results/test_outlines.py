from itertools import pairwise

import numpy as np
import pytest

from dicom_node.results.outlines import outlines


def area(loop: np.ndarray) -> float:
    """Signed area of a closed polygon (shoelace): positive where it runs clockwise on a screen."""
    rows, columns = loop[:-1].T, loop[1:].T
    return float((rows[1] * columns[0] - columns[1] * rows[0]).sum() / 2)


def filled(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside an odd number of outlines: the mask again."""
    inside = np.zeros(shape, bool)
    for loop in loops:
        for (row_a, column), (row_b, column_b) in pairwise(loop):
            if column == column_b:  # a vertical edge turns everything to its right
                inside[min(row_a, row_b) : max(row_a, row_b), column:] ^= True
    return inside


def test_one_pixel_is_outlined_by_its_four_corners() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1, 2] = True
    (loop,) = outlines(mask)
    assert loop.tolist() == [[1, 2], [1, 3], [2, 3], [2, 2], [1, 2]]


def test_straight_runs_have_no_points_between() -> None:
    (loop,) = outlines(np.ones((30, 40), bool))
    assert loop.tolist() == [[0, 0], [0, 40], [30, 40], [30, 0], [0, 0]]


def test_pixels_that_touch_at_a_corner_stay_apart() -> None:
    assert sorted(area(loop) for loop in outlines(np.eye(3, dtype=bool))) == [1.0, 1.0, 1.0]


def test_a_hole_runs_the_other_way() -> None:
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    outer, hole = outlines(mask)
    assert (area(outer), area(hole)) == (25.0, -1.0)


@pytest.mark.parametrize("seed", range(5))
def test_outlines_give_back_the_mask_whatever_its_shape(seed: int) -> None:
    mask = np.random.default_rng(seed).random((23, 31)) < 0.55
    loops = outlines(mask)
    np.testing.assert_array_equal(filled(loops, mask.shape), mask)
    assert sum(area(loop) for loop in loops) == mask.sum()


def test_an_empty_mask_has_none() -> None:
    assert outlines(np.zeros((3, 3), bool)) == []

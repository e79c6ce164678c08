import numpy as np
from numpy.typing import NDArray

from models.images.masks import assessed_mask, body_mask, brain_mask, otsu_level


def scene() -> NDArray[np.float32]:
    """A body with a hole, a letter beside it, noise in air."""
    rng = np.random.default_rng(3)
    pixels = rng.uniform(0, 0.03, (1, 64, 64)).astype(np.float32)
    pixels[0, 12:52, 12:44] = 0.5
    pixels[0, 28:34, 24:30] = 0.0
    pixels[0, 4:9, 54:58] = 0.9
    return pixels


def test_the_body_is_whole_and_without_the_letter() -> None:
    body = body_mask(scene())[0]

    assert body[30, 26]  # the hole
    assert not body[4:9, 54:58].any()
    assert body[12:52, 12:44].all()
    assert body.sum() <= 42 * 34  # at most one pixel beyond the edge, from the smoothing


def test_everything_is_assessed_where_the_contract_says_all() -> None:
    assert assessed_mask(scene()[:, None], "all").all()


def test_an_empty_picture_has_an_empty_mask() -> None:
    empty = np.zeros((2, 1, 16, 16), np.float32)

    assert not assessed_mask(empty, "content").any()
    assert not assessed_mask(empty, "tissue").any()


def test_the_threshold_lies_between_two_classes() -> None:
    values = np.concatenate([np.full(900, 0.1), np.full(100, 0.7)]).astype(np.float32)

    assert 0.1 < otsu_level(values) < 0.7
    assert (values > otsu_level(values)).sum() == 100


def skull(slices: int = 12, size: int = 120) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A brain of texture inside dark fluid and bone inside a bright scalp, and where the brain is."""
    rng = np.random.default_rng(8)
    depth, row, column = np.mgrid[:slices, :size, :size]
    middle = (slices - 1) / 2
    along, down, across = (depth - middle) / (middle + 1), (row - size / 2) / 54, (column - size / 2) / 44
    away = np.sqrt(along**2 + down**2 + across**2)
    brain = away < 0.82
    pixels = np.where(away < 1, 0.8, 0.0) * (along**2 < 0.9)  # scalp
    pixels[away < 0.94] = 0.08  # bone and fluid
    pixels[brain] = rng.normal(0.4, 0.04, int(brain.sum()))
    return pixels.clip(0, 1).astype(np.float32), brain


def test_the_brain_is_found_inside_its_skull() -> None:
    pixels, brain = skull()

    found = brain_mask(pixels)

    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.93
    assert (found & (pixels > 0.7)).sum() < 0.01 * found.sum()  # the scalp


def test_a_stripped_brain_stays_whole() -> None:
    pixels, brain = skull()
    pixels[~brain] = 0

    found = brain_mask(pixels)

    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.9


def test_a_stack_without_a_head_has_no_brain() -> None:
    assert not brain_mask(np.zeros((4, 32, 32), np.float32)).any()

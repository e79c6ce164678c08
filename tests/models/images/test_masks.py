import numpy as np
from numpy.typing import NDArray

from models.images.masks import assessed_mask, body_mask, otsu_level


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

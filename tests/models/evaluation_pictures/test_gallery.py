from collections.abc import Callable

import numpy as np
import pytest

from models.evaluation.gallery import cases_of, decode_plane, encode_plane
from models.evaluation.scoring import Scored
from models.images.picture import Picture


def test_planes_come_back_within_half_a_step() -> None:
    plane = np.linspace(-1, 3, 100, dtype=np.float32).reshape(10, 10)
    found = decode_plane(encode_plane(plane, 0, 2))

    np.testing.assert_allclose(found / 255 * 2, np.clip(plane, 0, 2), atol=1 / 255)


def test_best_median_and_worst_are_chosen_by_score(make_picture: Callable[..., Picture]) -> None:
    labels, scores = [1, 1, 1, 0, 0, 0], np.array([0.9, 0.1, 0.5, 0.2, 0.6, 0.3])
    pictures = tuple(
        make_picture(np.full((4, 4), score), study=f"s{i}", label=label, finding="mass" * label)
        for i, (label, score) in enumerate(zip(labels, scores, strict=True))
    )
    maps = tuple(np.eye(4, dtype=np.float32) for _ in labels)
    scored = Scored(pictures=pictures, scores=scores, maps=maps, studies={}, seconds=0)

    shown = {case.title: int(decode_plane(case.image)[0, 0]) for case in cases_of("a", "val", scored)}

    assert list(shown) == [
        "best: highest abnormal, mass",
        "median abnormal, mass",
        "worst: lowest abnormal, mass",
        "median normal",
        "worst: highest normal",
    ]
    assert list(shown.values()) == [round(255 * score) for score in (0.9, 0.5, 0.1, 0.3, 0.6)]
    without = Scored(pictures=pictures, scores=scores, maps=None, studies={}, seconds=0)
    assert cases_of("a", "val", without) == []


@pytest.mark.parametrize("low", [0.0, 5.0])
def test_a_flat_plane_is_encoded(low: float) -> None:
    assert not decode_plane(encode_plane(np.full((3, 3), low, dtype=np.float32), low, low)).any()

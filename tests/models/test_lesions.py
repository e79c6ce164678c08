from collections.abc import Callable

import numpy as np
import pytest

from models.evaluation.lesions import add_lesion
from models.preprocess import brain_mask
from models.volume import Volume

Brain = Callable[..., Volume]


def test_lesion_has_the_asked_contrast_in_the_middle_and_half_of_it_at_the_radius(brain: Brain) -> None:
    volume = brain(spacing_mm=(1.0, 1.0, 1.0))
    deviation = float(volume.voxels[brain_mask(volume)].std())
    index = np.array([90, 70, 105])
    x, y, z = (volume.affine @ [*index, 1])[:3]

    changed, mask = add_lesion(volume, diameter_mm=20, contrast_sd=2, centre_mm=(x, y, z))

    added = (changed.voxels - volume.voxels) / deviation
    assert added[tuple(index)] == pytest.approx(2, abs=0.02)
    assert added[index[0], index[1], index[2] + 10] == pytest.approx(1, abs=0.02)
    assert mask.sum() * volume.voxel_mm3 == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.05)


def test_same_seed_draws_the_same_lesion_and_another_seed_another(brain: Brain) -> None:
    first, _ = add_lesion(brain(), diameter_mm=15, contrast_sd=-2, seed=3)
    again, _ = add_lesion(brain(), diameter_mm=15, contrast_sd=-2, seed=3)
    other, _ = add_lesion(brain(), diameter_mm=15, contrast_sd=-2, seed=4)

    assert np.array_equal(first.voxels, again.voxels)
    assert not np.array_equal(first.voxels, other.voxels)


@pytest.mark.parametrize("seed", range(5))
def test_lesion_lies_inside_the_brain_and_touches_nothing_outside(brain: Brain, seed: int) -> None:
    volume = brain()
    inside = brain_mask(volume)

    changed, mask = add_lesion(volume, diameter_mm=20, contrast_sd=-3, seed=seed)

    assert np.array_equal(changed.voxels[~inside], volume.voxels[~inside])
    assert mask.sum() * volume.voxel_mm3 == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.1)
    assert changed.voxels[mask].min() > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"diameter_mm": 10, "contrast_sd": 1},
        {"diameter_mm": 10, "contrast_sd": 1, "seed": 1, "centre_mm": (0, 0, 0)},
        {"diameter_mm": 0, "contrast_sd": 1, "seed": 1},
        {"diameter_mm": 300, "contrast_sd": 1, "seed": 1},
    ],
)
def test_impossible_requests_are_refused(brain: Brain, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"give either|not positive|fits nowhere"):
        add_lesion(brain(), **arguments)

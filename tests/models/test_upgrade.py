from collections.abc import Callable

import numpy as np
import pytest

from models.appearance import appearance
from models.evaluation.upgrade import Population, simulate_years, upgraded
from models.volume import Volume

Brain = Callable[..., Volume]


@pytest.fixture(scope="module")
def before() -> Population:
    return Population(rows=np.random.default_rng(0).gamma(4.0, size=(40, 2)))


def test_an_upgrade_changes_how_the_images_look_and_not_where_the_brain_is(brain: Brain) -> None:
    volume = brain()

    after = upgraded(volume)

    assert ((after.voxels > 0) <= (volume.voxels > 0)).all()
    assert appearance(after)["midtone"] < appearance(volume)["midtone"]
    np.testing.assert_allclose(upgraded(volume, 0.0).voxels, volume.voxels, rtol=1e-5)


def test_drawn_studies_are_like_the_measured_ones(before: Population) -> None:
    drawn = before.draw((4000,), np.random.default_rng(1))

    np.testing.assert_allclose(drawn.mean(axis=0), before.rows.mean(axis=0), atol=0.2)
    # Noise of half a deviation adds a quarter to the variance.
    np.testing.assert_allclose(drawn.var(axis=0), 1.25 * before.rows.var(axis=0), rtol=0.15)


def test_an_upgrade_is_seen_within_two_hundred_studies_and_quiet_years_stay_quiet(before: Population) -> None:
    """A short version of the benchmark: eight years of a thousand studies."""
    deviation = before.rows.std(axis=0)
    after = Population(rows=before.rows + 0.8 * deviation)

    found = simulate_years(before, after, years=8, reference=150, a_day=10, days=100)

    assert found.alarms == 0
    assert len(found.delays) == 8
    assert found.share_within(200) == 1.0


def test_no_change_gives_no_alarm_after_it_either(before: Population) -> None:
    found = simulate_years(before, before, years=6, reference=150, a_day=10, days=20, look_out=200)

    assert found.delays == (201,) * 6
    assert found.share_within(200) == 0.0

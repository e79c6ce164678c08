from pathlib import Path

import numpy as np
import pytest

from models.calibration import family_limit
from models.catalogue import active_artefact
from models.evaluation.coverage import (
    ALPHAS,
    CONFIDENCE,
    exact_rate,
    highlighted,
    one_split,
    repeated_splits,
    simulated_coverage,
)
from models.evaluation.normals import picture_normals, volume_normals


def test_ten_thousand_groups_flag_as_many_normals_as_they_say() -> None:
    rows = simulated_coverage()

    assert [row.alpha for row in rows] == list(ALPHAS)
    assert all(row.holds for row in rows), rows
    assert all(row.expected <= row.alpha for row in rows)


def test_a_calibration_that_is_off_by_a_little_does_not_pass() -> None:
    """The proof can fail: a rate of 0.06 in place of 0.05 is outside the interval of ten thousand groups."""
    row = next(row for row in simulated_coverage() if row.alpha == 0.05)

    assert row.high < 0.06


@pytest.mark.parametrize(
    ("n", "alpha", "rate"), [(9, 0.1, 0.1), (8, 0.1, 0.0), (19, 0.05, 0.05), (18, 0.2, 3 / 19)]
)
def test_the_exact_rate_is_the_step_below_alpha(n: int, alpha: float, rate: float) -> None:
    assert exact_rate(n, alpha) == pytest.approx(rate)


def test_the_interval_holds_the_rates_of_independent_references() -> None:
    """The beta-binomial interval, against references and normals drawn afresh each time."""
    rng = np.random.default_rng(3)
    inside = [one_split("", rng.normal(size=99), rng.normal(size=200), 0.05).holds for _ in range(600)]

    assert np.mean(inside) >= CONFIDENCE - 2 * np.sqrt(0.05 * 0.95 / 600)


def test_normals_that_score_otherwise_do_not_pass() -> None:
    rng = np.random.default_rng(4)

    assert not one_split("", rng.normal(size=199), rng.normal(1.0, size=300), 0.05).holds


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.2])
def test_any_highlighted_region_has_the_stated_rate_on_normals(alpha: float) -> None:
    rng = np.random.default_rng(5)
    maxima = rng.normal(size=(2000, 500)).max(axis=1)  # of five hundred voxels each

    row = highlighted("maps", maxima, alpha, reference=99, splits=200)

    assert row.observed == pytest.approx(alpha, abs=0.01)
    assert row.holds


@pytest.mark.parametrize(
    ("n", "alpha", "place", "rate"), [(19, 0.05, 18, 0.05), (99, 0.05, 94, 0.05), (5, 0.05, 4, 1 / 6)]
)
def test_the_limit_of_a_map_is_a_conformal_quantile(n: int, alpha: float, place: int, rate: float) -> None:
    assert family_limit([float(value) for value in range(n)], alpha) == (float(place), pytest.approx(rate))


@pytest.mark.slow
def test_real_pictures_are_flagged_as_often_as_said(test_data: Path) -> None:
    normals = picture_normals(None, test_data / "fashion-mnist", "boots")

    assert len(normals.maxima) == len(normals.all)
    for alpha in (0.01, 0.05):
        kept_apart = one_split(normals.name, normals.reference, normals.others, alpha)
        mean, inside = repeated_splits(normals.name, normals.all, alpha, reference=199, splits=300)
        assert kept_apart.holds, kept_apart
        assert mean.holds, mean
        assert inside >= CONFIDENCE - 0.04
    shown = highlighted(normals.name, normals.maxima, 0.05, reference=199, splits=300)
    assert shown.holds, shown


@pytest.mark.slow
@pytest.mark.long
def test_real_brains_are_flagged_as_often_as_said(test_data: Path) -> None:
    normals = volume_normals(active_artefact(), test_data / "brain-mri-t1")

    assert len(normals.all) == 18
    for alpha in (0.1, 0.2):
        mean, inside = repeated_splits(normals.name, normals.all, alpha, reference=9)
        assert mean.holds, mean
        assert mean.observed == pytest.approx(alpha, abs=0.02)
        assert inside >= CONFIDENCE
    shown = highlighted(normals.name, normals.maxima, 0.1, reference=9)
    assert shown.holds, shown

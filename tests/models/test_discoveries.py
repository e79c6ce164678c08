import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from models.discoveries import adjusted, discoveries, least_reference
from models.evaluation.coverage import cohort_discoveries


def test_the_worked_example_of_the_procedure() -> None:
    """Benjamini and Hochberg 1995, section 3.2: fifteen p-values, four rejected at 0.05."""
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
        0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    ]  # fmt: skip

    assert discoveries(p_values, 0.05).tolist() == [True] * 4 + [False] * 11


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=40))
def test_adjusted_p_values_are_those_of_another_implementation(p_values: list[float]) -> None:
    np.testing.assert_allclose(adjusted(p_values), false_discovery_control(p_values, method="bh"))


def test_an_empty_cohort_has_an_empty_list() -> None:
    assert discoveries([], 0.1).size == 0


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1])
def test_a_rate_that_is_none_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="false-discovery rate"):
        discoveries([0.5], q)


def test_the_reference_a_list_needs_follows_from_the_smallest_p() -> None:
    n = least_reference(0.1, studies=1000, expected=20)

    full = np.append(np.full(20, 1 / (n + 1)), np.ones(980))
    short = np.append(np.full(20, 1 / n), np.ones(980))
    assert discoveries(full, 0.1).sum() == 20
    assert discoveries(short, 0.1).sum() == 0


def test_false_discoveries_stay_within_the_rate_over_a_thousand_cohorts() -> None:
    """One reference for all studies of a cohort: its p-values depend on each other."""
    found = cohort_discoveries(cohorts=1000, studies=200, prevalence=0.1, reference=1000, shift=3.0, q=0.1)

    assert found.rate <= 0.1 + 2 * found.error
    assert found.rate == pytest.approx(0.9 * 0.1, abs=3 * found.error)  # the share of normals times q
    assert found.power > 0.3

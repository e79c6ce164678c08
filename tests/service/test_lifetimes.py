import numpy as np
import pytest
from scipy.stats import CensoredData, ecdf

from service.lifetimes import median


def test_without_anything_unfinished_the_median_is_that_of_the_sample() -> None:
    assert median([4.0, 1.0, 3.0, 2.0, 5.0], [True] * 5).value == 3.0


def test_what_has_not_ended_counts_for_as_long_as_it_lasted() -> None:
    """By hand: 3/4 are left after 1 h; of 2 h is only known that it lasts longer; 3/8 are left after 3 h."""
    assert median([1.0, 2.0, 3.0, 9.0], [True, False, True, False]).value == 3.0
    ignored = median([1.0, 3.0], [True, True]).value
    assert ignored == 1.0


def test_where_less_than_half_has_ended_there_is_no_median_and_no_upper_limit() -> None:
    found = median([1.0, 5.0, 5.0, 5.0, 5.0], [True, False, False, False, False])
    assert (found.value, found.high) == (None, None)
    assert median([3.0, 4.0], [False, False]) == median([], [])


def test_the_interval_is_that_of_the_curve_as_scipy_has_it() -> None:
    rng = np.random.default_rng(3)
    lengths, limits = rng.exponential(10, 80), rng.uniform(0, 40, 80)
    times, ended = np.minimum(lengths, limits), lengths <= limits
    ended[times.argmax()] = False  # else the formula has no limit at its end

    curve = ecdf(CensoredData.right_censored(times, ~ended)).sf
    band = curve.confidence_interval(0.95, method="log-log")

    found = median(list(times), list(ended))
    for part, value in ((curve, found.value), (band.low, found.low), (band.high, found.high)):
        below = np.flatnonzero(part.probabilities <= 0.5)
        assert value == pytest.approx(part.quantiles[below[0]])


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(300):
        lengths, limits = rng.exponential(1, 40), rng.uniform(0, 4, 40)
        found = median(list(np.minimum(lengths, limits)), list(lengths <= limits))
        held += (found.low or 0.0) <= np.log(2) <= (found.high or np.inf)
    assert held / 300 > 0.91  # 0.95 less three standard errors of 300 runs


@pytest.mark.parametrize("count", [24, 48, 96, 398])
def test_half_is_reached_by_the_event_that_reaches_it_whatever_the_product_rounds_to(count: int) -> None:
    lengths = [float(number) for number in range(1, count + 1)]

    assert median(lengths, [True] * count).value == count / 2


def test_as_many_as_a_large_site_reads_in_a_year_are_counted_at_once() -> None:
    """Each moment against each length would be 40,000 million comparisons: minutes, not a moment."""
    found = median([float(number) for number in range(200_000)], [True] * 200_000)

    assert found.value == 99_999.0

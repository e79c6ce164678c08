import numpy as np
import pytest
from scipy.stats import genpareto, norm

from models.tail import LEAST, Tail


def test_the_tail_of_a_known_distribution_is_found_again() -> None:
    scores = np.sort(genpareto.rvs(0.2, scale=2.0, size=5000, random_state=np.random.default_rng(1)))

    tail = Tail.fit(scores.tolist())

    assert tail is not None
    assert tail.shape == pytest.approx(0.2, abs=0.15)
    far = float(genpareto.isf(1e-4, 0.2, scale=2.0))
    assert tail.probability(far) == pytest.approx(1e-4, rel=0.8)


def test_it_orders_what_lies_beyond_every_reference_study() -> None:
    scores = np.sort(np.random.default_rng(2).normal(size=1000)).tolist()
    tail = Tail.fit(scores)

    assert tail is not None
    estimates = [tail.probability(scores[-1] + step) for step in (0.0, 0.2, 0.5)]
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[0] < 5 / 1000
    assert estimates[0] == pytest.approx(float(norm.sf(scores[-1])), rel=2)


def test_inside_the_reference_studies_are_counted_not_estimated() -> None:
    scores = -np.log(1 - (np.arange(1000) + 0.5) / 1000)  # quantiles of an exponential
    tail = Tail.fit(scores.tolist())

    assert tail is not None
    assert tail.threshold == pytest.approx(scores[899])
    assert tail.probability(tail.threshold) is None
    assert tail.n == 100
    assert tail.shape == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    "scores",
    [
        np.linspace(0, 1, 10 * LEAST - 1),  # one study short
        np.repeat(np.arange(4.0), 200),  # a score of four values has no tail
        np.append(np.linspace(0, 1, 999), 1e6),  # one outlier fixes no shape
        np.linspace(0, 1, 1000),  # nor does a score with an end, where the likelihood has no maximum
    ],
    ids=["few", "ties", "outlier", "end"],
)
def test_no_tail_is_fitted_where_there_is_none(scores: np.ndarray) -> None:
    assert Tail.fit(scores.tolist()) is None

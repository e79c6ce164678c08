import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.evaluation.metrics import auroc, average_precision, bootstrap_interval, wilson_interval


@pytest.mark.parametrize("decimals", [8, 1], ids=["distinct", "ties"])
def test_metrics_agree_with_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + truth, decimals)

    assert auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))


def test_one_class_gives_no_number() -> None:
    assert np.isnan(auroc([True, True], [1, 2]))
    assert np.isnan(average_precision([False, False], [1, 2]))


def test_constant_scores_rank_by_chance() -> None:
    assert auroc([True, False, False], [0, 0, 0]) == 0.5


def test_interval_is_wider_when_cases_belong_to_fewer_people() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=6), 20)
    people = [str(i) for i in np.repeat(np.arange(6), 20)]
    alone = [str(i) for i in range(120)]

    by_person = bootstrap_interval(people, lambda i: float(values[i].mean()), seed=1)
    by_case = bootstrap_interval(alone, lambda i: float(values[i].mean()), seed=1)

    assert np.diff(by_person)[0] > 2 * np.diff(by_case)[0]


def test_interval_repeats_with_its_seed() -> None:
    arguments = (["a", "b", "c"], lambda i: float(i.mean()))
    assert bootstrap_interval(*arguments, seed=5) == bootstrap_interval(*arguments, seed=5)


@pytest.mark.parametrize(("found", "n"), [(0, 6), (2, 6), (6, 6)])
def test_interval_of_a_share_agrees_with_scipy(found: int, n: int) -> None:
    expected = binomtest(found, n).proportion_ci(method="wilson")

    assert wilson_interval(found, n) == pytest.approx((expected.low, expected.high), abs=1e-6)

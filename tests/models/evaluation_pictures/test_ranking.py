import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import auc, f1_score, precision_recall_curve, roc_curve

from models.calibration import conformal_p
from models.evaluation.metrics import auroc
from models.evaluation.ranking import (
    area_by_trapezoids,
    conformal_threshold,
    decide,
    equal_error_threshold,
    false_positive_rate,
    most_telling,
    regress_out,
)


def _cases(decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = rng.random(300) < 0.3
    return truth, np.round(rng.normal(size=300) + truth, decimals)


def test_decisions_give_the_shares_of_their_definition() -> None:
    truth = [True, True, True, False, False, False, False]
    flagged = [True, True, False, True, False, False, False]
    found = decide(truth, flagged)

    assert (found.sensitivity, found.specificity, found.precision) == (2 / 3, 3 / 4, 2 / 3)
    assert found.accuracy == 5 / 7
    assert found.f1 == pytest.approx(f1_score(truth, flagged))
    low, high = found.intervals()["specificity"]
    assert low < 3 / 4 < high


def test_what_cannot_be_divided_is_not_a_number() -> None:
    assert np.isnan(decide([False], [False]).sensitivity)
    assert np.isnan(decide([True], [False]).precision)
    assert "sensitivity" not in decide([False], [False]).intervals()


@pytest.mark.parametrize("n", [19, 20, 39, 100])
def test_scores_above_the_conformal_threshold_are_those_with_a_small_p(n: int) -> None:
    reference = np.random.default_rng(n).permutation(n).astype(float)
    threshold = conformal_threshold(reference, 0.05)

    for score in np.arange(-0.5, n + 1):
        assert (score > threshold) == (conformal_p(reference.tolist(), float(score)) <= 0.05)


def test_with_few_reference_scores_only_what_is_above_all_of_them_is_flagged() -> None:
    assert conformal_threshold([3.0, 1.0, 2.0], 0.05) == 3.0


@pytest.mark.parametrize("decimals", [8, 1], ids=["distinct", "ties"])
def test_false_positive_rate_is_that_of_scikit_learns_curve(decimals: int) -> None:
    truth, scores = _cases(decimals)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)

    assert false_positive_rate(truth, scores) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


def test_trapezoids_are_scikit_learns() -> None:
    truth, scores = _cases()
    precision, recall, _ = precision_recall_curve(truth, scores)

    assert area_by_trapezoids(truth, scores) == pytest.approx(auc(recall, precision))


def test_equal_error_threshold_flags_and_misses_alike() -> None:
    truth, scores = _cases()
    found = decide(truth, scores >= equal_error_threshold(truth, scores))

    assert 1 - found.specificity == pytest.approx(1 - found.sensitivity, abs=1 / truth.sum())


def test_regression_is_fitted_on_normals_alone() -> None:
    rng = np.random.default_rng(0)
    covariates = rng.normal(size=(200, 2)) * [1, 50] + [0, 1000]
    normal = np.arange(200) < 120
    scores = covariates @ [2.0, -0.1] + rng.normal(size=200) * 0.1 + 5 * ~normal
    expected = LinearRegression().fit(covariates[normal], scores[normal]).predict(covariates)

    left = regress_out(scores, covariates, normal)

    np.testing.assert_allclose(left, scores - expected, atol=1e-8)
    assert left[~normal].mean() == pytest.approx(5, abs=0.1)


def test_a_score_that_is_only_sharpness_has_no_ranking_left() -> None:
    truth = np.arange(40) % 2 == 0
    sharpness = np.where(truth, 2.0, 1.0) + np.linspace(0, 0.5, 40)

    assert auroc(truth, sharpness) == 1
    left = regress_out(3 * sharpness + 1, sharpness[:, None], ~truth)
    np.testing.assert_allclose(left, 0, atol=1e-9)


def test_a_property_is_turned_towards_the_abnormal() -> None:
    truth = np.array([True, True, False])
    assert auroc(truth, most_telling(truth, [1, 2, 3])) == 1
    assert auroc(truth, most_telling(truth, [3, 4, 1])) == 1


def test_a_property_that_is_off_on_either_side_is_told_by_its_distance() -> None:
    truth = np.array([True, True, False, False])
    ratio = [0.8, 1.2, 1.0, 1.0]

    assert auroc(truth, ratio) == 0.5
    assert auroc(truth, most_telling(truth, ratio)) == 1

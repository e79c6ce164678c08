import numpy as np
import pytest

from models.evaluation.metrics import auroc, average_precision, bootstrap_interval
from models.evaluation.resampling import case_intervals


def test_intervals_agree_with_redrawing_cases_one_by_one() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(120) < 0.4
    scores = np.round(rng.normal(size=120) + truth, 1)
    patients = [f"p{i // 3}" for i in range(120)]

    (low, high), (low_ap, high_ap) = case_intervals(truth, scores, patients, seed=0, draws=600)

    for found, measure in (((low, high), auroc), ((low_ap, high_ap), average_precision)):
        slow = bootstrap_interval(
            patients, lambda i, measure=measure: measure(truth[i], scores[i]), seed=1, draws=600
        )
        assert found == pytest.approx(slow, abs=0.02)


def test_one_class_has_no_interval() -> None:
    area, precision = case_intervals([True, True], [1.0, 2.0], ["a", "b"], seed=0, draws=10)
    assert np.isnan([*area, *precision]).all()

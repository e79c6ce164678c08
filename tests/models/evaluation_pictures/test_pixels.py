import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from models.evaluation.pixels import COARSE, PixelPool, bin_of, dice_of


def _maps(seed: int = 0, n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Scores with three decimals: further apart than bins, with many ties, some negative."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.1
    return np.round(rng.normal(size=n) + 1.5 * truth, 1).astype(np.float32), truth


def test_bins_ascend_with_scores_of_either_sign() -> None:
    values = np.array([-np.inf, -1e30, -2, -1, -1e-30, 0, 1e-30, 1, 1.01, 2, 1e30, np.inf], dtype=np.float32)

    assert (np.diff(bin_of(values)) > 0).all()
    assert bin_of(np.array([-0.0], dtype=np.float32)) == bin_of(np.array([0.0], dtype=np.float32))


def test_pooled_curve_is_exact_where_scores_are_further_apart_than_bins() -> None:
    scores, truth = _maps()
    pool = PixelPool()
    for start in range(0, 2000, 500):
        part = slice(start, start + 500)
        pool.add(f"p{start // 1000}", scores[part], truth[part])
    curve = pool.curve()
    precision, recall, thresholds = precision_recall_curve(truth, scores)

    assert pool.patients == ("p0", "p1")
    assert curve.average_precision == pytest.approx(average_precision_score(truth, scores))
    assert curve.auroc == pytest.approx(roc_auc_score(truth, scores))
    best = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert curve.best_dice == pytest.approx(best.max())
    assert curve.prevalence == pytest.approx(truth.mean())
    threshold = float(thresholds[len(thresholds) // 2])
    assert pool.dice_at(threshold) == pytest.approx(f1_score(truth, scores >= np.float32(threshold)))
    assert dice_of(scores, truth, threshold) == pytest.approx(pool.dice_at(threshold))


def test_bins_change_the_precision_of_continuous_scores_by_less_than_a_thousandth() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(50_000) < 0.02
    scores = (rng.normal(size=50_000) + 1.5 * truth).astype(np.float32)
    pool = PixelPool()
    own = pool.add("p", scores, truth)

    assert own.average_precision == pytest.approx(average_precision_score(truth, scores), abs=1e-3)


def test_a_pool_without_an_abnormal_pixel_has_no_precision() -> None:
    pool = PixelPool()
    pool.add("p", np.zeros(4, dtype=np.float32), np.zeros(4, dtype=np.bool_))

    assert np.isnan(pool.curve().average_precision)
    assert np.isnan(pool.curve().best_dice)
    assert np.isnan(pool.dice_at(0.5))


def test_interval_redraws_patients_and_is_repeated_by_its_seed() -> None:
    pool, one = PixelPool(), PixelPool()
    for number in range(8):
        scores, truth = _maps(number)
        pool.add(f"p{number}", scores + np.float32(number % 3), truth)
        one.add("p", scores, truth)
    first, second = pool.intervals(seed=4, draws=200), pool.intervals(seed=4, draws=200)
    low, high = first["pixel_ap"]

    assert first == second
    assert low < pool.curve().average_precision < high
    low, high = one.intervals(seed=4, draws=20)["pixel_ap"]
    assert high - low == 0  # One patient is the same in every draw.
    assert low == pytest.approx(one.curve().average_precision, abs=2 / COARSE)


def test_a_million_pixels_are_pooled_in_a_second() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=1_000_000).astype(np.float32)
    pool = PixelPool()
    start = time.thread_time()  # of a processor, however many others want it
    pool.add("p", scores, scores > 2)

    assert pool.curve().average_precision == pytest.approx(1, abs=0.01)
    assert time.thread_time() - start < 2  # Twenty million then take well below a minute.

import numpy as np
import pytest

from models.evaluation.quality import l1_errors, residual_distance, structural_similarity


def test_errors_are_means_inside_and_outside_the_lesion() -> None:
    picture = np.array([[0.0, 0.5, 1.0, 9.0]], dtype=np.float32)
    shown = np.array([[0.2, 0.4, 0.4, 0.0]], dtype=np.float32)
    mask = np.array([[True, True, True, False]])
    lesion = np.array([[False, False, True, True]])

    normal, abnormal = l1_errors(picture, shown, mask, lesion)

    assert normal == pytest.approx((0.2 + 0.1) / 2)
    assert abnormal == pytest.approx(0.6)
    assert np.isnan(l1_errors(picture, shown, mask, np.zeros_like(mask))[1])


def test_distance_of_residuals_runs_from_nothing_to_two_and_leaves_zeros_out() -> None:
    low, high = np.full(5, 0.1, dtype=np.float32), np.full(9, 0.9, dtype=np.float32)
    zeros = np.zeros(100, dtype=np.float32)

    assert residual_distance(low, low) == 0
    assert residual_distance(low, high) == pytest.approx(2)
    assert residual_distance(np.concatenate([low, zeros]), high) == pytest.approx(2)
    # Halves against all: (1/2 - 1)² / (3/2) + (1/2)² / (1/2) = 1/6 + 1/2.
    assert residual_distance(np.array([0.1, 0.9], dtype=np.float32), high) == pytest.approx(2 / 3)
    assert np.isnan(residual_distance(zeros, high))


def test_similarity_is_one_for_the_same_and_known_for_flat_planes() -> None:
    texture = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    dark, bright = np.full((32, 32), 0.2, np.float32), np.full((32, 32), 0.6, np.float32)

    assert structural_similarity(texture, texture) == pytest.approx(1)
    # Flat planes have no variance: (2ab + c) / (a² + b² + c) with c = 0.01².
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert structural_similarity(dark, bright) == pytest.approx(expected, rel=1e-4)
    assert structural_similarity(texture, 1 - texture) < 0

from pathlib import Path

import numpy as np
import pytest

from models.aggregation import (
    Normals,
    combine,
    core,
    find_regions,
    head_map,
    reduce_map,
    smooth,
    top_mean,
)
from models.artefact import Head, Source
from models.catalogue import active_artefact
from models.errors import ArtefactError, NotAssessableError, Reason, TrainingError
from models.preprocess import Prepared


@pytest.fixture
def ball() -> Prepared:
    index = np.indices((40, 40, 40)) - 19.5
    mask = (index**2).sum(axis=0) < 15**2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return Prepared(voxels=mask.astype(np.float32), mask=mask, affine=affine)


def test_smoothing_keeps_a_constant_up_to_the_border_of_the_brain(ball: Prepared) -> None:
    found = smooth(ball.voxels * 3, ball, Source(median=1, smooth_mm=4.0))

    assert np.allclose(found[ball.mask], 3, atol=1e-3)
    assert not found[~ball.mask].any()


def test_median_removes_single_voxels_and_keeps_a_lesion(ball: Prepared) -> None:
    values = np.zeros_like(ball.voxels)
    values[20, 20, 20] = 100
    values[10:15, 18:23, 18:23] = 1
    found = smooth(values, ball, Source(median=3, smooth_mm=0.1))

    assert found[20, 20, 20] == 0
    assert found[12, 20, 20] == pytest.approx(1, abs=1e-3)


def test_core_leaves_out_a_rim_in_millimetres(ball: Prepared) -> None:
    inner = core(ball, 6.0)
    radius_mm = 2 * np.sqrt(((np.argwhere(inner) - 19.5) ** 2).sum(axis=1)).max()

    assert radius_mm == pytest.approx(2 * 15 - 6, abs=2)
    assert np.array_equal(core(ball, 0), ball.mask)


@pytest.mark.parametrize(("sign", "expected"), [(1, 2.0), (-1, 3.0)])
def test_head_keeps_its_own_sign(sign: int, expected: float) -> None:
    values = np.array([[[2.0, -3.0]]], dtype=np.float32)
    head = Head(source="a", sign=sign, is_member=True)

    assert head_map(values, head, np.ones(values.shape, dtype=bool)).max() == expected


@pytest.mark.parametrize(("top_mm3", "expected"), [(8, 9.0), (16, 8.5), (1e9, 4.5), (0.1, 9.0)])
def test_study_score_is_the_mean_over_the_highest_tissue(top_mm3: float, expected: float) -> None:
    values = np.arange(10, dtype=np.float32).reshape(1, 1, 10)

    assert top_mean(values, np.ones(values.shape, dtype=bool), top_mm3, 8.0) == pytest.approx(expected)


def test_a_study_without_tissue_in_its_core_has_no_score() -> None:
    values = np.ones((2, 2, 2), dtype=np.float32)

    with pytest.raises(NotAssessableError) as refusal:
        top_mean(values, np.zeros(values.shape, dtype=bool), 100.0, 8.0)

    assert refusal.value.reason is Reason.WRONG_EXTENT


def test_combined_map_is_the_largest_member_in_units_of_its_level() -> None:
    first = np.full((1, 1, 2), 4, dtype=np.float32)
    second = np.array([[[1, 9]]], dtype=np.float32)

    found = combine({"a": first, "b": second, "unused": first * 100}, {"a": 4.0, "b": 3.0})

    assert found.ravel().tolist() == [1.0, 3.0]


def test_regions_are_measured_in_millimetres_and_patient_coordinates() -> None:
    values = np.zeros((10, 10, 10), dtype=np.float32)
    values[2:4, 5:7, 5:7] = 0.6
    values[8, 1, 1] = 0.9
    values[6:8, 1:3, 7:9] = 0.7
    affine = np.diag([3.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = [-10, 20, 5]

    found = find_regions(values, 0.5, affine=affine, voxel_mm3=6.0, min_mm3=12.0)

    assert [round(region.peak, 3) for region in found] == [0.7, 0.6]
    assert found[1].volume_mm3 == 8 * 6
    assert found[1].centre_mm == pytest.approx((-10 + 3 * 2.5, 20 + 2 * 5.5, 5 + 5.5))
    assert found[1].slice_index in (2, 3)


def test_no_voxel_above_the_band_gives_no_region() -> None:
    values = np.full((4, 4, 4), 0.1, dtype=np.float32)
    assert find_regions(values, 0.5, affine=np.eye(4), voxel_mm3=1.0, min_mm3=1.0) == ()


def test_standardised_map_counts_normal_deviations() -> None:
    shape = (4, 4, 4)
    normals = Normals({"a": np.full((2, 2, 2), 5, np.float32)}, {"a": np.full((2, 2, 2), 2, np.float32)})

    assert np.allclose(normals.standardise("a", np.full(shape, 9, np.float32)), 2)


def test_statistics_come_back_as_they_were_written(tmp_path: Path) -> None:
    manifest = active_artefact().manifest
    shape = tuple(n // 2 for n in manifest.input.shape)
    rng = np.random.default_rng(0)
    maps = {name: rng.random(shape).astype(np.float16).astype(np.float32) for name in manifest.sources}
    Normals(maps, maps).save(tmp_path / "normals.npz")
    first = (tmp_path / "normals.npz").read_bytes()
    Normals(maps, maps).save(tmp_path / "normals.npz")

    found = Normals.load(tmp_path / "normals.npz", manifest)

    assert (tmp_path / "normals.npz").read_bytes() == first
    assert all(np.array_equal(found.mean[name], maps[name]) for name in maps)


def test_statistics_on_another_grid_are_refused(tmp_path: Path) -> None:
    manifest = active_artefact().manifest
    maps = {name: np.ones((2, 2, 2), np.float32) for name in manifest.sources}
    Normals(maps, maps).save(tmp_path / "normals.npz")

    with pytest.raises(ArtefactError, match="shape"):
        Normals.load(tmp_path / "normals.npz", manifest)


@pytest.mark.parametrize(
    ("mean", "deviation"), [(1e6, 1.0), (np.nan, 1.0), (0.0, 1e6), (0.0, 1e-9), (0.0, -1.0)]
)
def test_statistics_that_half_precision_cannot_hold_are_not_written(
    tmp_path: Path, mean: float, deviation: float
) -> None:
    """Beyond 65504 a deviation would be infinite, and nothing deviates; below 6e-8 it would be nothing."""
    statistics = ({"a": np.full((2, 2, 2), value, np.float32)} for value in (mean, deviation))

    with pytest.raises(TrainingError, match="a "):
        Normals(*statistics).save(tmp_path / "normals.npz")

    assert not (tmp_path / "normals.npz").exists()


@pytest.mark.parametrize(("mean", "deviation"), [(np.nan, 1.0), (0.0, np.inf), (0.0, 0.0), (0.0, -1.0)])
def test_statistics_without_which_nothing_deviates_are_refused(
    tmp_path: Path, mean: float, deviation: float
) -> None:
    manifest = active_artefact().manifest
    shape = tuple(n // 2 for n in manifest.input.shape)
    arrays = {f"{name}_mean": np.full(shape, mean, np.float16) for name in manifest.sources}
    arrays |= {f"{name}_deviation": np.full(shape, deviation, np.float16) for name in manifest.sources}
    np.savez_compressed(tmp_path / "normals.npz", allow_pickle=False, **arrays)

    with pytest.raises(ArtefactError, match="no number or no deviation"):
        Normals.load(tmp_path / "normals.npz", manifest)


def test_reduced_map_is_the_mean_of_blocks(ball: Prepared) -> None:
    assert reduce_map(ball.voxels).mean() == pytest.approx(ball.voxels.mean())

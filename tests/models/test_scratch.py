import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from models.preprocess import _blurred, clean_voxels, resample
from models.scratch import IN_MEMORY, SLAB, Scratch, slabs
from models.volume import Volume


def test_slabs_are_all_of_the_first_axis_once() -> None:
    for shape in ((1, 5, 5), (7, 3, 3), (10, 4000, 4000), (0, 2, 2)):
        ranges = list(slabs(shape, voxels=20))
        assert [i for part in ranges for i in range(part.start, part.stop)] == list(range(shape[0]))
    assert list(slabs((4, 2, 2), voxels=8)) == [slice(0, 2), slice(2, 4)]


def test_an_array_on_disk_is_like_one_in_memory_and_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    kept = Scratch(folder).zeros((3, 4), np.float32)
    kept[1] = 2

    assert (kept.sum(), kept.dtype, IN_MEMORY.zeros((3, 4), np.float32).dtype) == (8, np.float32, np.float32)
    assert isinstance(kept, np.memmap)
    assert list(folder.iterdir()) == []


def test_filtering_by_slabs_gives_the_numbers_of_filtering_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = np.random.default_rng(0).random((40, 9, 8), dtype=np.float32)
    sigma = [1.7, 0.0, 0.6]
    expected = ndimage.gaussian_filter(voxels, sigma, mode="constant")

    for size in (72, 72 * 5, SLAB):
        monkeypatch.setattr("models.scratch.slabs.__defaults__", (size,))
        assert _blurred(voxels, sigma, IN_MEMORY).tobytes() == expected.tobytes()


def test_a_volume_on_disk_is_prepared_to_the_same_bytes(
    brain: Callable[..., Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = brain(spacing_mm=(1.5, 2.0, 2.0))
    expected = resample(clean_voxels(volume), volume, np.diag([2.0, 2, 2, 1]), (40, 40, 40))
    scratch = Scratch(tmp_path)
    voxels = scratch.zeros(volume.voxels.shape, np.float32)
    voxels[:] = volume.voxels
    on_disk = Volume(voxels=voxels, spacing_mm=volume.spacing_mm, affine=volume.affine, scratch=scratch)
    monkeypatch.setattr("models.scratch.slabs.__defaults__", (voxels[0].size * 7,))

    found = resample(clean_voxels(on_disk), on_disk, np.diag([2.0, 2, 2, 1]), (40, 40, 40))

    assert found.tobytes() == expected.tobytes()


def streamed(folder: Path, *numbers: int) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.streamed", str(folder), *map(str, numbers)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.long
def test_a_study_larger_than_its_memory_gives_the_same_results_in_less(tmp_path: Path) -> None:
    """3 million voxels; arrays of 30 MB that stay for the whole way are on disk."""
    whole = streamed(tmp_path, 180, 128, 1024, 0)
    small = streamed(tmp_path, 180, 128, 64, 0)

    assert (whole["is_on_disk"], small["is_on_disk"]) == (False, True)
    assert small["results"] == whole["results"]
    assert small["study_score"] == whole["study_score"]
    assert small["anonymous_end_mb"] < whole["anonymous_end_mb"] - 25
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_study_of_five_thousand_instances_runs_in_bounded_memory(tmp_path: Path) -> None:
    """1.3 thousand million voxels, which would take 31 GB; see docs/profile.md for what it took."""
    found = streamed(tmp_path, 5000, 512, 2048, 4096)

    assert found["is_on_disk"]
    assert set(found["results"]) >= {"sc", "sr"}

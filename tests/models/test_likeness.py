from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.aggregation import Normals
from models.artefact import NORMALS, Artefact
from models.catalogue import active_artefact
from models.errors import NotAssessableError, Reason
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.lesions import add_lesion
from models.likeness import check_likeness
from models.predictor import INPUT
from models.preprocess import prepare
from models.volume import Volume

Brain = Callable[..., Volume]
Check = Callable[[Volume], None]


@pytest.fixture(scope="module")
def check() -> Check:
    artefact = Artefact.load(active_artefact().path)
    mean = Normals.load(artefact.path / NORMALS, artefact.manifest).mean[INPUT]
    return lambda volume: check_likeness(prepare(volume, artefact.manifest.input), mean)


def changed(volume: Volume, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Volume:
    voxels = np.where(volume.voxels > 0, change(volume.voxels), 0)
    return replace(volume, voxels=np.ascontiguousarray(voxels, dtype=np.float32))


def is_unlike(check: Check, volume: Volume) -> bool:
    try:
        check(volume)
    except NotAssessableError as refusal:
        return refusal.reason is Reason.UNLIKE_TRAINING
    return False


def noise(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    return (20 + 200 * np.random.default_rng(0).random(voxels.shape)).astype(np.float32)


def test_a_brain_of_noise_or_of_inverted_contrast_is_unlike(check: Check, brain: Brain) -> None:
    check(brain())

    assert is_unlike(check, changed(brain(), noise))
    assert is_unlike(check, changed(brain(), lambda voxels: voxels.max() + 20 - voxels))


def test_real_normals_are_alike_also_with_a_large_lesion_and_other_kinds_of_images_are_not(
    check: Check, test_data: Path
) -> None:
    folder = test_data / "brain-mri-t1"
    for entry in read_data_record(folder).of_role("test")[:2]:
        volume = read_nifti(folder / entry.file)
        check(volume)
        for contrast in (-3, 3):
            check(add_lesion(volume, diameter_mm=60, contrast_sd=contrast, seed=3)[0])
        assert is_unlike(check, changed(volume, noise))
        assert is_unlike(check, changed(volume, lambda voxels: voxels.max() + 1 - voxels))
        assert is_unlike(check, replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, ::-1])))


def test_another_scanner_s_t1_is_alike_and_its_other_sequences_are_not(check: Check, test_data: Path) -> None:
    for patient in ("07", "26"):
        unlike = {
            sequence: is_unlike(
                check, read_nifti(test_data / f"brain-mri-ms/cross_patient{patient}_{sequence}.nii.gz")
            )
            for sequence in ("T1", "T2", "FLAIR")
        }
        assert unlike == {"T1": False, "T2": True, "FLAIR": True}


def test_nothing_to_compare_is_unlike(check: Check, brain: Brain) -> None:
    """Cut so that no tissue lies where training had any."""
    volume = brain()
    assert is_unlike(check, changed(volume, lambda voxels: np.where(voxels == voxels.max(), 100, 0)))

import hashlib
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml

from dicom_node.reader import list_series, read_volume
from dicom_node.writer import as_acquired
from models.errors import Reason
from models.evaluation.dataset import RECORDS, DataRecord, read_nifti
from models.preprocess import brain_mask
from models.volume import Volume
from service.demonstration.studies import (
    HELD_APART,
    STORED_PER_UNIT,
    VOLUMES,
    DemonstrationStudy,
    plans,
    write_studies,
)

pytestmark = pytest.mark.slow

Studies = tuple[DemonstrationStudy, ...]
PLANS = {plan.title: plan for plan in plans()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demonstration")


@pytest.fixture(scope="module")
def studies(folder: Path) -> Studies:
    return write_studies(folder)


def header(path: Path) -> pydicom.FileDataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def volume_of(study: DemonstrationStudy) -> Volume:
    (series,) = list_series(study.paths)
    return read_volume(series, max_voxels=10**8)


def source_of(study: DemonstrationStudy) -> Volume:
    return read_nifti(VOLUMES / PLANS[study.title].volunteer.file)


def labelled(studies: Studies, label: str) -> list[DemonstrationStudy]:
    return [study for study in studies if study.label == label]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.dcm")
    }


def test_every_kind_of_study_is_there(studies: Studies) -> None:
    assert Counter(study.label for study in studies) == {
        "normal": 6,
        "synthetic": 6,
        "lesion": 1,
        "not_assessable": 2,
    }


def test_no_two_studies_share_a_title_a_patient_or_a_uid(studies: Studies) -> None:
    first = [header(study.paths[0]) for study in studies]

    for values in (
        [study.title for study in studies],
        [study.study_uid for study in studies],
        [str(dataset.StudyInstanceUID) for dataset in first],
        [str(dataset.PatientName) for dataset in first],
        [dataset.PatientID for dataset in first],
    ):
        assert len(set(values)) == len(studies)


def test_every_instance_belongs_to_its_study_and_none_is_there_twice(studies: Studies) -> None:
    seen = set()
    for study in studies:
        for path in study.paths:
            dataset = header(path)
            assert dataset.StudyInstanceUID == study.study_uid
            seen.add(dataset.SOPInstanceUID)
    assert len(seen) == sum(len(study.paths) for study in studies)


def test_normals_are_the_subjects_that_no_model_was_made_with() -> None:
    record = DataRecord.model_validate(yaml.safe_load((RECORDS / "brain-mri-t1.yaml").read_text()))

    assert [volunteer.file for volunteer in HELD_APART] == [entry.file for entry in record.of_role("test")]


def test_nothing_but_the_order_of_voxels_differs_from_the_source(studies: Studies) -> None:
    for study in (*labelled(studies, "normal"), *labelled(studies, "lesion")):
        written, source = as_acquired(volume_of(study), "axial"), as_acquired(source_of(study), "axial")
        np.testing.assert_array_equal(written.voxels, source.voxels * STORED_PER_UNIT)
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)


def test_normals_come_in_every_plane_and_in_both_slice_orders(studies: Studies) -> None:
    acquired = set()
    for study in labelled(studies, "normal"):
        first, last = header(study.paths[0]), header(study.paths[-1])
        row, column = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
        step = np.subtract(last.ImagePositionPatient, first.ImagePositionPatient)
        axis = int(np.abs(step).argmax())
        acquired.add((axis, bool(step @ np.cross(row, column) > 0)))

    assert acquired == {(axis, forward) for axis in range(3) for forward in (False, True)}


def test_a_synthetic_lesion_has_the_size_and_contrast_that_its_description_says(studies: Studies) -> None:
    """The blob is 1 in its middle and a half at its radius; it may be cut by the brain's surface or floor."""
    for study in labelled(studies, "synthetic"):
        source = as_acquired(source_of(study), "axial")
        change = as_acquired(volume_of(study), "axial").voxels / STORED_PER_UNIT - source.voxels
        _, _, _, size, _, contrast, _ = header(study.paths[0]).SeriesDescription.split()
        brain_sd = float(source.voxels[brain_mask(source)].std())
        peak = float(change.flat[np.abs(change).argmax()])
        blob_mm3 = float((np.abs(change) > abs(float(contrast)) * brain_sd / 2).sum()) * source.voxel_mm3
        sphere_mm3 = np.pi / 6 * float(size) ** 3

        assert peak / brain_sd == pytest.approx(float(contrast), rel=0.1)
        assert 0.7 * sphere_mm3 < blob_mm3 < 1.1 * sphere_mm3


def test_there_are_as_many_dark_lesions_as_bright_ones() -> None:
    lesions = [plan.lesion for plan in plans() if plan.lesion is not None]

    assert Counter(lesion.shade for lesion in lesions) == {"dark": 3, "bright": 3}
    assert {lesion.diameter_mm for lesion in lesions} == {20, 25, 30}


def test_the_localiser_is_three_orthogonal_slices_and_refused_as_such(studies: Studies) -> None:
    (study,) = [study for study in studies if PLANS[study.title].scout]
    (series,) = list_series(study.paths)
    directions = [
        np.reshape(header(path).ImageOrientationPatient, (2, 3)).astype(float) for path in study.paths
    ]
    normals = np.array([np.cross(row, column) for row, column in directions])

    np.testing.assert_allclose(np.abs(normals @ normals.T), np.eye(3), atol=1e-3)
    assert series.reason is Reason.LOCALISER


def test_the_blank_study_has_geometry_and_nothing_else(studies: Studies) -> None:
    (study,) = [study for study in studies if PLANS[study.title].blank]

    assert not volume_of(study).voxels.any()


def test_a_damaged_folder_is_written_again_to_the_same_bytes(folder: Path, studies: Studies) -> None:
    before = digests(folder)
    stranger = folder / "notes.txt"
    stranger.write_text("not ours")
    studies[2].paths[0].write_bytes(b"damaged")
    studies[3].paths[0].unlink()

    again = write_studies(folder)

    assert digests(folder) == before
    assert again == studies
    assert stranger.read_text() == "not ours"


def test_an_intact_folder_is_left_alone(folder: Path, studies: Studies) -> None:
    written_at = studies[0].paths[0].stat().st_mtime_ns

    assert write_studies(folder) == studies
    assert studies[0].paths[0].stat().st_mtime_ns == written_at


@pytest.mark.peers
def test_dciodvfy_finds_nothing_wrong(studies: Studies) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs Debian's dicom3tools")
    for study in studies:
        for path in (study.paths[0], study.paths[-1]):
            done = subprocess.run(
                ["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False
            )
            told = (done.stdout + done.stderr).splitlines()
            wrong = [line for line in told if line.startswith(("Error", "Warning"))]
            # Scanners write LOCALIZER for MR as for CT; the standard's list of terms has it for CT alone.
            assert "MRImage" in told
            assert [line for line in wrong if "<LOCALIZER>" not in line] == [], study.title

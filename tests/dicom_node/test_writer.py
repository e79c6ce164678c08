import shutil
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from dicom_node.reader import list_series, read_volume
from dicom_node.writer import Patient, Plane, Protocol, Study, as_acquired, write_series
from models.volume import Volume

PATIENT = Patient(name="Phantom^One", patient_id="PH-1", sex="F", birth_date=date(1970, 6, 1))
STUDY = Study(
    name="phantom",
    started_at=datetime(2026, 3, 1, 10, 15, tzinfo=UTC),
    description="Brain MRI",
    study_id="1",
)
PROTOCOL = Protocol(description="T1 phantom", manufacturer="Phantom maker", model_name="Phantom scanner")
SPACING_MM = (3.0, 2.0, 1.5)
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


def tilt(degrees: float) -> NDArray[np.float64]:
    """Rotation about the patient's left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def phantom(*, degrees: float = 7.0, least: int = 0) -> Volume:
    """Every voxel another value, rows and columns and slices another length, the head tilted."""
    shape = (5, 7, 6)
    affine = np.eye(4)
    # Slices towards the head, rows towards the back, columns towards the left.
    affine[:3, :3] = tilt(degrees) @ np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * SPACING_MM
    affine[:3, 3] = (-12.5, 33.25, 4.0)
    voxels = np.arange(least, least + np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(voxels=voxels, spacing_mm=SPACING_MM, affine=affine)


def written(volume: Volume, folder: Path) -> list[pydicom.FileDataset]:
    paths = write_series(volume, folder, patient=PATIENT, study=STUDY, protocol=PROTOCOL)
    return [pydicom.dcmread(path) for path in paths]


def places(volume: Volume) -> dict[float, NDArray[np.float64]]:
    """Where each value lies in the patient."""
    found = {}
    for index, value in np.ndenumerate(volume.voxels):
        found[float(value)] = volume.affine[:3, :3] @ np.array(index) + volume.affine[:3, 3]
    return found


def assert_same_places(one: Volume, other: Volume) -> None:
    expected, found = places(one), places(other)
    assert expected.keys() == found.keys()
    for value, place in expected.items():
        np.testing.assert_allclose(found[value], place, atol=1e-6)


def test_what_is_written_reads_back_as_the_same_volume(tmp_path: Path) -> None:
    volume = phantom()

    written(volume, tmp_path)
    (series,) = list_series(list(tmp_path.iterdir()))
    back = read_volume(series, max_voxels=10_000)

    np.testing.assert_array_equal(back.voxels, volume.voxels)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-6)
    assert back.spacing_mm == pytest.approx(SPACING_MM)


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_every_plane_keeps_every_voxel_at_its_place(
    tmp_path: Path, plane: Plane, *, is_reversed: bool
) -> None:
    volume = phantom()

    acquired = as_acquired(volume, plane, is_reversed=is_reversed)
    written(acquired, tmp_path)
    (series,) = list_series(list(tmp_path.iterdir()))

    assert_same_places(volume, acquired)
    assert_same_places(volume, read_volume(series, max_voxels=10_000))


@pytest.mark.parametrize(
    ("plane", "orientation", "towards"),
    [
        ("axial", [1, 0, 0, 0, 1, 0], (0, 0, 1)),
        ("coronal", [1, 0, 0, 0, 0, -1], (0, 1, 0)),
        ("sagittal", [0, 1, 0, 0, 0, -1], (1, 0, 0)),
    ],
)
def test_a_plane_lies_on_the_screen_as_a_reader_expects(
    tmp_path: Path, plane: Plane, orientation: list[float], towards: tuple[float, ...]
) -> None:
    """Patient's left on the right or nose on the left, head up; slices in the stated direction or against."""
    straight = phantom(degrees=0)

    forward = written(as_acquired(straight, plane), tmp_path / "forward")
    backward = written(as_acquired(straight, plane, is_reversed=True), tmp_path / "backward")

    assert forward[0].ImageOrientationPatient == orientation
    assert backward[0].ImageOrientationPatient == orientation
    step = np.subtract(forward[1].ImagePositionPatient, forward[0].ImagePositionPatient)
    assert np.dot(step, towards) > 0
    assert backward[0].ImagePositionPatient == forward[-1].ImagePositionPatient


def test_spacing_is_told_in_the_order_of_the_standard(tmp_path: Path) -> None:
    """Pixel Spacing: distance between rows first (PS3.3 10.7.1.3)."""
    dataset = written(phantom(), tmp_path)[0]

    slices, rows, columns = SPACING_MM
    assert dataset.PixelSpacing == [rows, columns]
    assert dataset.SliceThickness == dataset.SpacingBetweenSlices == slices


def test_twelve_bits_unless_more_are_needed(tmp_path: Path) -> None:
    small = written(phantom(), tmp_path / "small")[0]
    large = written(phantom(least=60_000), tmp_path / "large")[0]
    signed = written(phantom(least=-100), tmp_path / "signed")[0]

    assert (small.BitsStored, small.HighBit, small.PixelRepresentation) == (12, 11, 0)
    assert (large.BitsStored, large.PixelRepresentation) == (16, 0)
    assert (signed.BitsStored, signed.PixelRepresentation) == (16, 1)
    assert signed.pixel_array.min() == -100


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scale them first"):
        written(phantom(least=65_500), tmp_path)


def test_a_sheared_grid_is_refused(tmp_path: Path) -> None:
    volume = phantom()
    volume.affine[:3, 0] += 0.2 * volume.affine[:3, 1]

    with pytest.raises(ValueError, match="right angles"):
        written(volume, tmp_path)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(phantom(), tmp_path / name)

    one, two = (
        [path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("one", "two")
    )
    assert one == two


def test_instances_of_a_study_share_what_they_should_and_nothing_else(tmp_path: Path) -> None:
    datasets = written(phantom(), tmp_path)

    assert {dataset.StudyInstanceUID for dataset in datasets} == {STUDY.uid}
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 1
    assert len({dataset.FrameOfReferenceUID for dataset in datasets}) == 1
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
    assert [dataset.InstanceNumber for dataset in datasets] == [1, 2, 3, 4, 5]


def test_age_counts_whole_years_on_the_day(tmp_path: Path) -> None:
    """Born on 1 June 1970, imaged on 1 March 2026: 55, three months before 56."""
    assert written(phantom(), tmp_path)[0].PatientAge == "055Y"


@pytest.mark.peers
@pytest.mark.parametrize("least", [0, -100])
def test_dciodvfy_finds_no_error(tmp_path: Path, least: int) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs Debian's dicom3tools")
    written(phantom(least=least), tmp_path)

    for path in tmp_path.iterdir():
        done = subprocess.run(
            ["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        told = done.stdout + done.stderr
        assert "MRImage" in told
        assert [line for line in told.splitlines() if line.startswith(("Error", "Warning"))] == []

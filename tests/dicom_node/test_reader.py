import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.errors import NotAVolumeError
from dicom_node.reader import UNREADABLE_KEY, list_series, read_headers, read_volume
from models.errors import Reason
from models.volume import Volume
from tests.phantoms import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Phantom, changed, set_pixels, write

MAX_VOXELS = 1 << 24
Change = Callable[[int, FileDataset], None]


def read_one(folder: Path, datasets: list[FileDataset]) -> Volume:
    (series,) = list_series(write(folder, datasets))
    assert series.reason is None, series.detail
    return read_volume(series, max_voxels=MAX_VOXELS)


@pytest.mark.parametrize("directions", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_the_bright_voxel_keeps_its_place_in_the_patient(
    tmp_path: Path, directions: tuple[tuple[float, ...], tuple[float, ...]], *, is_reversed: bool
) -> None:
    phantom = Phantom(directions=directions)
    datasets = phantom.datasets()
    for number, dataset in enumerate(datasets):  # neither file order nor instance number tells the order
        dataset.InstanceNumber = len(datasets) - number if is_reversed else number

    volume = read_one(tmp_path, datasets)

    index = np.unravel_index(volume.voxels.argmax(), volume.voxels.shape)
    place = volume.affine @ [*index, 1]
    np.testing.assert_allclose(place[:3], phantom.bright_mm, atol=1e-6)
    np.testing.assert_allclose(volume.spacing_mm, phantom.spacing_mm, atol=1e-6)


def _drop(keyword: str) -> Change:
    def change(_: int, dataset: FileDataset) -> None:
        delattr(dataset, keyword)

    return change


def _turn_first(number: int, dataset: FileDataset) -> None:
    if number == 0:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _halve_first(number: int, dataset: FileDataset) -> None:
    if number == 0:
        set_pixels(dataset, np.zeros((6, 10), np.uint16))


def _shift_one(number: int, dataset: FileDataset) -> None:
    if number == 3:
        dataset.ImagePositionPatient[2] += 0.8


def _tilt(number: int, dataset: FileDataset) -> None:
    dataset.ImagePositionPatient[1] += 0.7 * number


def _zigzag(number: int, dataset: FileDataset) -> None:
    dataset.ImagePositionPatient[0] += 20 * (number % 2)


def _other_frame(number: int, dataset: FileDataset) -> None:
    if number == 2:
        dataset.FrameOfReferenceUID = "1.2.3.4"


def _one_place(_: int, dataset: FileDataset) -> None:
    dataset.ImagePositionPatient = [0, 0, 0]


def _other_patient(number: int, dataset: FileDataset) -> None:
    # One that is not stated says nothing.
    dataset.PatientID = {1: "SOMEBODY ELSE", 2: ""}.get(number, dataset.PatientID)


def _localiser(_: int, dataset: FileDataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def _colour(_: int, dataset: FileDataset) -> None:
    dataset.PhotometricInterpretation = "PALETTE COLOR"


def _capture(_: int, dataset: FileDataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage


def _infinite(_: int, dataset: FileDataset) -> None:
    dataset.add_new(0x00200032, "DS", ["1e400", "0", "0"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_drop("ImagePositionPatient"), Reason.NO_GEOMETRY),
        (_drop("ImageOrientationPatient"), Reason.NO_GEOMETRY),
        (_drop("PixelSpacing"), Reason.NO_GEOMETRY),
        (_infinite, Reason.NO_GEOMETRY),
        (_turn_first, Reason.MIXED_GEOMETRY),
        (_halve_first, Reason.MIXED_GEOMETRY),
        (_shift_one, Reason.MIXED_GEOMETRY),
        (_tilt, Reason.MIXED_GEOMETRY),
        (_zigzag, Reason.MIXED_GEOMETRY),
        (_other_frame, Reason.MIXED_GEOMETRY),
        (_one_place, Reason.DUPLICATE_POSITIONS),
        (_other_patient, Reason.MIXED_PATIENTS),
        (_localiser, Reason.LOCALISER),
        (_colour, Reason.COLOUR),
        (_capture, Reason.NO_IMAGES),
    ],
)
def test_what_is_no_regular_stack_of_images_is_refused_with_its_reason(
    tmp_path: Path, change: Change, reason: Reason
) -> None:
    (series,) = list_series(write(tmp_path, changed(Phantom().datasets(), change)))

    assert series.reason is reason
    assert series.detail


def test_a_missing_slice_is_found(tmp_path: Path) -> None:
    datasets = Phantom().datasets()
    del datasets[3]

    (series,) = list_series(write(tmp_path, datasets))

    assert series.reason is Reason.MISSING_SLICES


def test_two_slices_are_no_volume(tmp_path: Path) -> None:
    (series,) = list_series(write(tmp_path, Phantom().datasets()[:2]))

    assert series.reason is Reason.TOO_FEW_SLICES


def test_a_file_that_cannot_be_read_is_accounted_for(tmp_path: Path) -> None:
    paths = write(tmp_path, Phantom().datasets())
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM" + bytes(range(200)))

    unreadable, good = sorted(list_series([*paths, broken]), key=lambda series: len(series.paths))

    assert (unreadable.key, unreadable.reason, unreadable.paths) == (
        UNREADABLE_KEY,
        Reason.UNREADABLE,
        (broken,),
    )
    assert good.reason is None
    assert sorted(good.paths) == paths
    assert read_headers(unreadable) == []


def test_a_volume_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (series,) = list_series(write(tmp_path, Phantom().datasets()))

    with pytest.raises(NotAVolumeError) as refused:
        read_volume(series, max_voxels=100)

    assert refused.value.reason is Reason.TOO_LARGE


def test_pixels_smaller_than_the_header_claims_are_refused(tmp_path: Path) -> None:
    def claim(_: int, dataset: FileDataset) -> None:
        dataset.Rows = dataset.Columns = 4000

    (series,) = list_series(write(tmp_path, changed(Phantom().datasets(), claim)))

    with pytest.raises(NotAVolumeError) as refused:
        read_volume(series, max_voxels=1 << 30)

    assert refused.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize(("keyword", "value"), [("RescaleSlope", None), ("PixelPaddingValue", [1, 2])])
def test_rescale_or_padding_that_is_no_number_has_its_reason(
    tmp_path: Path, keyword: str, value: object
) -> None:
    def spoil(number: int, dataset: FileDataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        if number == 1:
            setattr(dataset, keyword, value)

    (series,) = list_series(write(tmp_path, changed(Phantom().datasets(), spoil)))

    with pytest.raises(NotAVolumeError) as refused:
        read_volume(series, max_voxels=MAX_VOXELS)

    assert refused.value.reason is Reason.UNDECODABLE


def test_what_is_true_of_one_image_is_true_of_the_series(tmp_path: Path) -> None:
    def mark(number: int, dataset: FileDataset) -> None:
        if number == 2:
            dataset.ContrastBolusAgent = "agent"
        if number == 3:
            dataset.LossyImageCompression, dataset.BurnedInAnnotation = "01", "YES"

    (series,) = list_series(write(tmp_path, changed(Phantom().datasets(), mark)))

    acquisition = series.acquisition
    assert (acquisition.contrast_agent, acquisition.is_lossy, acquisition.is_burned_in) == (True, True, True)


def test_no_reason_tells_who_the_patient_is(tmp_path: Path) -> None:
    datasets = changed(Phantom().datasets(), _turn_first)
    (series,) = list_series(write(tmp_path, datasets))

    told = f"{series.detail} {series.key} {series.acquisition}"

    for value in (datasets[0].PatientName, datasets[0].PatientID, datasets[0].SeriesInstanceUID):
        assert str(value) not in told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_never_escape_as_anything_but_a_reason(tmp_path: Path, seed: int) -> None:
    (path, *_) = write(tmp_path, Phantom().datasets())
    chance = random.Random(seed)  # noqa: S311 - damage, not secrets
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(132, len(content))] = chance.randrange(256)
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(bytes(content))

    for series in list_series([damaged]):
        if series.reason is None:
            with pytest.raises(NotAVolumeError):
                read_volume(series, max_voxels=MAX_VOXELS)


def test_real_series_end_as_volumes_or_with_the_right_reason(test_data: Path) -> None:
    expected = {
        "mr-head-t1-sag-siemens-35": None,
        "mr-enhanced-philips-pcasl": None,
        "mr-abdomen-survey-philips-11": Reason.MIXED_GEOMETRY,
        "mr-epi-ge-30of150": Reason.DUPLICATE_POSITIONS,
        "mr-epi-siemens-mosaic": Reason.DUPLICATE_POSITIONS,
        "mr-enhanced-siemens-xa10": Reason.MULTIFRAME,
    }

    found = {
        name: list_series([path for path in (test_data / "dicom/series" / name).iterdir() if path.is_file()])
        for name in expected
    }

    assert {name: series[0].reason for name, series in found.items()} == expected
    volume = read_volume(found["mr-head-t1-sag-siemens-35"][0], max_voxels=MAX_VOXELS)
    assert volume.voxels.shape == (35, 256, 256)


def test_hostile_files_end_with_a_reason_in_bounded_time(test_data: Path) -> None:
    paths = [path for path in (test_data / "dicom/malformed").rglob("*") if path.is_file()]
    begun = time.monotonic()

    series = [one for path in paths for one in list_series([path])]

    assert len(series) == len(paths)
    assert all(one.reason is not None for one in series)
    assert time.monotonic() - begun < 60

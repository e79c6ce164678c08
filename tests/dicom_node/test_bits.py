import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dicom_node.bits import check_bits
from dicom_node.errors import NotAVolumeError, UnreadableInstanceError
from dicom_node.header import read_dataset
from dicom_node.pixels import decode
from dicom_node.reader import list_series, read_volume
from models.errors import Reason
from tests.phantoms import Phantom, mr_image, write


def check(image: FileDataset) -> None:
    check_bits(image, decode(image))


@pytest.mark.parametrize("is_signed", [False, True])
def test_values_beyond_the_declared_bits_are_refused_and_not_wrapped(*, is_signed: bool) -> None:
    """4100 in twelve bits would come out as 4, the brightest voxel as the darkest."""
    image = mr_image("beyond", 0, np.array([[0, 5], [2047, 4100]], np.uint16))
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, int(is_signed)

    with pytest.raises(NotAVolumeError) as refused:
        check(image)

    assert refused.value.reason is Reason.OUT_OF_RANGE


def test_an_overlay_of_old_in_the_high_bits_is_no_value_beyond_them() -> None:
    image = mr_image("overlay", 0, np.array([[0, 5 | 0x8000], [2047, 4095 | 0x8000]], np.uint16))
    image.BitsStored, image.HighBit = 12, 11
    image.add_new(0x60000100, "US", 16)
    image.add_new(0x60000102, "US", 15)

    check(image)
    np.testing.assert_array_equal(decode(image)[0], [[0, 5], [2047, 4095]])


def test_a_header_that_declares_no_bits_is_refused() -> None:
    image = mr_image("bits", 0, np.zeros((2, 2), np.uint16))
    image.BitsStored = 0

    with pytest.raises(NotAVolumeError) as refused:
        check(image)

    assert refused.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_pattern_in_the_unused_bits_and_the_sign_are_no_values(*, is_signed: bool) -> None:
    values = np.array([[0, 5], [2047, -1 if is_signed else 4095]], np.int32)
    for written in ((values & 0x0FFF) | 0xA000, values & 0xFFFF if is_signed else values):
        image = mr_image("pattern", 0, written.astype(np.uint16))
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, int(is_signed)

        check(image)


def test_a_series_with_values_beyond_its_bits_is_refused(tmp_path: Path) -> None:
    datasets = Phantom().datasets()  # the bright voxel is 1000
    for dataset in datasets:
        dataset.BitsStored, dataset.HighBit = 9, 8
    (series,) = list_series(write(tmp_path, datasets))

    with pytest.raises(NotAVolumeError) as refused:
        read_volume(series, max_voxels=1 << 20)

    assert refused.value.reason is Reason.OUT_OF_RANGE


def test_of_all_real_files_those_made_to_reach_beyond_their_bits_are_found(test_data: Path) -> None:
    beyond = []
    for path in sorted((test_data / "dicom").rglob("*")):
        if not path.is_file() or "pwnlab" in path.parts:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = read_dataset(path, with_pixels=True)
            if dataset.get("SamplesPerPixel") == 1:
                check(dataset)
        except UnreadableInstanceError:
            continue
        except NotAVolumeError as refusal:
            if refusal.reason is Reason.OUT_OF_RANGE:
                beyond.append(path.parent.name)

    assert beyond == ["twelve-bit"] * 3

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.errors import NotAVolumeError
from dicom_node.header import read_dataset
from dicom_node.pixels import decode, padding_of, to_modality_values
from models.errors import Reason
from tests.phantoms import Phantom, mr_image

STORED = np.array([[0, 100], [4000, 4095]], np.uint16)


@pytest.fixture
def image() -> FileDataset:
    image = mr_image("pixels", 0, STORED)
    image.BitsStored, image.HighBit = 12, 11
    return image


def test_rescale_is_applied(image: FileDataset) -> None:
    image.RescaleSlope, image.RescaleIntercept = 2, -1024

    np.testing.assert_array_equal(to_modality_values(image, STORED), STORED * 2.0 - 1024)


def test_the_inverted_twin_has_the_same_values(image: FileDataset) -> None:
    twin = mr_image("twin", 0, 4095 - STORED)
    twin.BitsStored, twin.HighBit = 12, 11
    twin.PhotometricInterpretation = "MONOCHROME1"

    np.testing.assert_array_equal(to_modality_values(twin, 4095 - STORED), to_modality_values(image, STORED))


def test_the_signed_twin_differs_by_its_intercept_alone(image: FileDataset) -> None:
    signed = STORED.astype(np.int16) - 2048
    twin = mr_image("signed", 0, signed)
    twin.RescaleSlope, twin.RescaleIntercept = 1, 2048

    np.testing.assert_array_equal(to_modality_values(twin, signed), to_modality_values(image, STORED))


def test_padding_is_found_on_stored_values(image: FileDataset) -> None:
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.PixelPaddingValue = 0

    mask = padding_of(image, STORED)

    assert mask is not None
    np.testing.assert_array_equal(mask, [[True, False], [False, False]])


def test_a_padding_range_and_either_sign_are_understood() -> None:
    signed = np.array([[-2000, -1999], [0, 5]], np.int16)
    image = mr_image("padded", 0, signed)
    image.PixelPaddingValue = 65536 - 2000  # written as unsigned beside signed pixels
    image.PixelPaddingRangeLimit = -1990 + 65536

    np.testing.assert_array_equal(padding_of(image, signed), [[True, True], [False, False]])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_a_compressed_twin_decodes_to_the_same_pixels(syntax: str) -> None:
    image = Phantom(shape=(6, 64, 64)).datasets()[2]
    expected = decode(image)

    image.compress(syntax)

    np.testing.assert_array_equal(decode(image), expected)


def test_pixels_nobody_here_can_decode_have_their_reason() -> None:
    image = Phantom(shape=(6, 64, 64)).datasets()[2]
    image.compress(RLELossless)
    image.PixelData = image.PixelData[:40]

    with pytest.raises(NotAVolumeError) as refused:
        decode(image)

    assert refused.value.reason is Reason.UNDECODABLE


def test_grey_pixels_of_real_files_are_those_of_the_reference_decoders(test_data: Path) -> None:
    with (test_data / "dicom/manifest.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["kind"] in {"transfer-syntax", "series"}
            and row["pixels"] == "ok"
            and row["photometric"].startswith("MONOCHROME")
        ]

    different = [
        row["file"]
        for row in rows
        if hashlib.sha256(
            decode(read_dataset(test_data / "dicom" / row["file"], with_pixels=True)).tobytes()
        ).hexdigest()
        != row["pixel_sha256"]
    ]

    assert len(rows) > 100
    assert different == []

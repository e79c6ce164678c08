from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node import header
from dicom_node.errors import UnreadableInstanceError
from dicom_node.header import read_dataset
from dicom_node.web.frames import locate, pieces
from tests.phantoms import mr_image, write

PIXELS = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


def image() -> FileDataset:
    dataset = mr_image("frames", 0, PIXELS)
    dataset.NumberOfFrames = 3
    return dataset


def saved(folder: Path, dataset: FileDataset) -> Path:
    (path,) = write(folder, [dataset])
    return path


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_frames_are_found_and_decoded_one_by_one(tmp_path: Path, syntax: str | None) -> None:
    dataset = image()
    if syntax == ImplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax is not None:
        dataset.compress(syntax, generate_instance_uid=False)
    pixels = locate(saved(tmp_path, dataset))
    assert (pixels.frames, pixels.is_encapsulated) == (3, syntax in {RLELossless, JPEGLSLossless})
    for index in (2, 0):
        assert pixels.decoded(index) == PIXELS[index].tobytes()
        if not pixels.is_encapsulated:
            assert pixels.stored(index) == PIXELS[index].tobytes()
    for index in (3, -1):
        with pytest.raises(IndexError):
            pixels.stored(index)


def test_frames_of_big_endian_are_turned_around(tmp_path: Path) -> None:
    dataset = image()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = PIXELS.astype(">u2").tobytes()
    path = tmp_path / "big.dcm"
    dcmwrite(path, dataset, little_endian=False, implicit_vr=False, force_encoding=True)
    pixels = locate(path)
    assert not pixels.is_readable_in_place
    assert pixels.decoded(1) == PIXELS[1].tobytes()


def test_a_bitmap_begins_with_its_first_pixel_wherever_that_stands(tmp_path: Path) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (3, 3, 5), dtype=np.uint8)  # 15 bits a frame
    dataset = mr_image("bits", 0, np.zeros((3, 5), np.uint8))
    dataset.NumberOfFrames, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 3, 1, 1, 0
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    pixels = locate(saved(tmp_path, dataset))
    for index in range(3):
        stored = np.unpackbits(np.frombuffer(pixels.stored(index), np.uint8), bitorder="little")
        np.testing.assert_array_equal(stored[:15], bits[index].ravel())


def test_the_whole_value_comes_in_pieces(tmp_path: Path) -> None:
    assert b"".join(pieces(locate(saved(tmp_path, image())))) == PIXELS.tobytes()


def test_what_has_no_pixels_or_fewer_than_it_says_is_refused(tmp_path: Path) -> None:
    dataset = image()
    dataset.PixelData = dataset.PixelData[:20]
    with pytest.raises(UnreadableInstanceError, match="shorter"):
        locate(saved(tmp_path, dataset)).stored(2)
    del dataset.PixelData
    with pytest.raises(UnreadableInstanceError, match="no pixels"):
        locate(saved(tmp_path, dataset))
    (tmp_path / "not.dcm").write_bytes(b"not DICOM")
    with pytest.raises(UnreadableInstanceError):
        locate(tmp_path / "not.dcm")


@pytest.mark.parametrize("group_length", [None, 0, 1 << 30])
def test_a_deflated_object_is_measured_before_it_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_length: int | None
) -> None:
    dataset = mr_image("bomb", 0, np.zeros((1024, 1024), np.uint16))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = saved(tmp_path, dataset)
    if group_length is not None:  # what the file says of it is anything
        content = bytearray(path.read_bytes())
        content[140:144] = group_length.to_bytes(4, "little")
        path.write_bytes(content)
    assert locate(path).frames == 1
    monkeypatch.setattr(header, "LARGEST_INFLATED", 1 << 20)
    for read in (locate, read_dataset):
        with pytest.raises(UnreadableInstanceError):
            read(path)

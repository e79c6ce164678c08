"""Whatever the forward scan says, the walker of `elements` says too."""

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.elements import read_file_meta, text_of
from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import is_uid
from dicom_node.keys import TRANSFER_SYNTAX_UID, Keys, read_keys
from dicom_node.receiving import forward
from dicom_node.receiving.forward import keys_of
from tests.phantoms import mr_image


@pytest.fixture
def image() -> FileDataset:
    return mr_image("forward", 0, np.zeros((4, 4), np.uint16))


def encoded(image: Dataset, *, implicit: bool, little: bool = True) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, image)
    return buffer.getvalue()


def outcome(read: object, *arguments: object) -> Keys | str:
    try:
        return read(*arguments)  # type: ignore[operator, no-any-return]
    except UnreadableInstanceError as error:
        return str(error)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("announced", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_plain_data_sets_are_understood_without_help(
    image: FileDataset, monkeypatch: pytest.MonkeyPatch, *, implicit: bool, announced: str
) -> None:
    content = encoded(image, implicit=implicit)
    expected = read_keys(io.BytesIO(content), announced)

    monkeypatch.setattr(forward, "read_keys", None)
    assert keys_of(memoryview(content), announced) == expected
    assert expected.study_uid == image.StudyInstanceUID


def test_a_sequence_of_undefined_length_is_left_to_the_walker(image: FileDataset) -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    image.ReferencedImageSequence = [item]
    image["ReferencedImageSequence"].is_undefined_length = True
    content = encoded(image, implicit=False)

    assert keys_of(memoryview(content), ExplicitVRLittleEndian).study_uid == image.StudyInstanceUID


def test_big_endian_is_left_to_the_walker(image: FileDataset) -> None:
    del image.PixelData
    content = encoded(image, implicit=False, little=False)

    assert keys_of(memoryview(content), ExplicitVRBigEndian).study_uid == image.StudyInstanceUID


def test_every_cut_and_every_changed_byte_has_the_same_end_both_ways(image: FileDataset) -> None:
    content = encoded(image, implicit=False)[:700]
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        for tried in (content[:position], bytes(damaged)):
            ways = (
                outcome(keys_of, memoryview(tried), ExplicitVRLittleEndian),
                outcome(read_keys, io.BytesIO(tried), ExplicitVRLittleEndian),
            )
            assert ways[0] == ways[1], position


def test_every_file_of_the_test_data_has_the_same_keys_both_ways(test_data: Path) -> None:
    looked_at = 0
    for path in sorted((test_data / "dicom").rglob("*.dcm")):
        with path.open("rb") as file:
            try:
                syntax = text_of(read_file_meta(file), TRANSFER_SYNTAX_UID)
            except UnreadableInstanceError:
                continue
            start = file.tell()
            if not is_uid(syntax):
                continue
            content = path.read_bytes()[start:]
            file.seek(start)
            assert outcome(keys_of, memoryview(content), syntax) == outcome(read_keys, file, syntax), (
                path.name
            )
        looked_at += 1
    assert looked_at > 100

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.elements import DEEPEST, LONGEST_VALUE, MOST_INFLATED, read_file_meta, scan, text_of
from dicom_node.errors import UnreadableInstanceError

STUDY_UID = 0x0020000D
SOP_CLASS_UID = 0x00080016
PATIENT_NAME = 0x00100010
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(buffer, dataset)
    content = buffer.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(content) + packer.flush()
    return content


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit little endian element; `length` lies about the value where it is given."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", group, number, vr)
    if vr in (b"SQ", b"OB", b"UN", b"OW", b"UT"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


@pytest.fixture
def nested() -> Dataset:
    """A data set with sequences of both kinds of length before its study UID."""
    inner, outer, dataset = Dataset(), Dataset(), Dataset()
    inner.CodeValue = "deep"
    outer.PurposeOfReferenceCodeSequence = [inner, inner]
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.ReferencedStudySequence = [outer]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.SourceImageSequence = [outer]
    dataset.PatientName = "Somebody^Else"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.PixelData = b"\1\2\3\4"
    dataset["PixelData"].VR = "OW"
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_top_level_values_are_found_past_sequences_in_every_encoding(nested: Dataset, syntax: str) -> None:
    found = scan(io.BytesIO(encoded(nested, syntax)), syntax, (SOP_CLASS_UID, STUDY_UID))

    assert text_of(found, SOP_CLASS_UID) == "1.2.840.10008.5.1.4.1.1.4"
    assert text_of(found, STUDY_UID) == "1.2.3"
    assert len(found) == 2


def test_the_encoding_that_is_there_counts_not_the_one_announced(nested: Dataset) -> None:
    content = encoded(nested, ImplicitVRLittleEndian)

    assert text_of(scan(io.BytesIO(content), ExplicitVRLittleEndian, (STUDY_UID,)), STUDY_UID) == "1.2.3"


def test_nothing_is_read_past_the_last_attribute_asked_for() -> None:
    content = element(0x0020, 0x000D, b"UI", b"1.2\0") + element(0x0021, 0x0001, b"SH", b"ab") + b"garbage"

    assert scan(io.BytesIO(content), ExplicitVRLittleEndian, (STUDY_UID,)) == {STUDY_UID: b"1.2\0"}


def test_a_long_value_is_left_out_and_the_next_is_found() -> None:
    long = element(0x0008, 0x0115, b"UT", b"x" * (LONGEST_VALUE + 2))
    content = long + element(0x0020, 0x000D, b"UI", b"1.2\0")

    found = scan(io.BytesIO(content), ExplicitVRLittleEndian, (0x00080115, STUDY_UID))

    assert found == {0x00080115: b"", STUDY_UID: b"1.2\0"}


def test_an_unknown_sequence_is_implicit_inside() -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    item += struct.pack("<HHL", 0x0008, 0x0100, 4) + b"CODE"
    item += struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    content = element(0x0009, 0x1010, b"UN", item, length=0xFFFFFFFF)
    content += element(0x0020, 0x000D, b"UI", b"1.2\0")

    assert scan(io.BytesIO(content), ExplicitVRLittleEndian, (STUDY_UID,)) == {STUDY_UID: b"1.2\0"}


@pytest.mark.parametrize(
    "content",
    [
        element(0x0010, 0x0010, b"PN", b"abcd", length=60_000),
        element(0x0008, 0x1140, b"SQ", b"", length=0xFFFFFFF0),
        element(0x0008, 0x1140, b"SQ", b"", length=0xFFFFFFFF),
        element(0x0008, 0x0005, b"CS", b"") + b"\x10\0\x10\0??\4\0abcd",
        b"\x08\0\x16",
        element(0x0020, 0x000D, b"UI", b"1.2", length=64),
    ],
    ids=["beyond", "claims 4 GB", "never ends", "no such VR", "three bytes", "cut short"],
)
def test_an_impossible_length_is_an_error(content: bytes) -> None:
    with pytest.raises(UnreadableInstanceError):
        scan(io.BytesIO(content), ExplicitVRLittleEndian, (STUDY_UID,))


def test_sequences_nested_without_end_are_an_error_and_no_recursion() -> None:
    level = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + element(8, 0x1140, b"SQ", b"", 0xFFFFFFFF)
    content = element(8, 0x1140, b"SQ", level * 10_000, 0xFFFFFFFF)

    with pytest.raises(UnreadableInstanceError, match="nested too deeply"):
        scan(io.BytesIO(content), ExplicitVRLittleEndian, (STUDY_UID,))
    assert DEEPEST < 10_000


def test_endless_small_elements_are_an_error() -> None:
    content = element(0x0008, 0x0005, b"CS", b"") * 200_001

    with pytest.raises(UnreadableInstanceError, match="too many elements"):
        scan(io.BytesIO(content), ExplicitVRLittleEndian, (STUDY_UID,))


def test_a_deflate_bomb_is_inflated_to_its_limit_and_no_further() -> None:
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(element(0x0008, 0x0115, b"UT", b"", length=0x7FFFFFFF))
    zeros = b"\0" * MOST_INFLATED
    bomb += b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    source = io.BytesIO(bomb)

    with pytest.raises(UnreadableInstanceError, match="longer than the data set"):
        scan(source, DeflatedExplicitVRLittleEndian, (STUDY_UID,))
    assert source.tell() < len(bomb) // 2


def test_what_does_not_inflate_is_an_error() -> None:
    with pytest.raises(UnreadableInstanceError, match="cannot be inflated"):
        scan(io.BytesIO(b"\xff" * 64), DeflatedExplicitVRLittleEndian, (STUDY_UID,))


def test_file_meta_ends_where_its_group_ends() -> None:
    meta = element(2, 0x0010, b"UI", b"1.2.840.10008.1.2\0") + element(2, 0x0016, b"AE", b"SCANNER ")
    data_set = struct.pack("<HHL", 0x0008, 0x0016, 4) + b"1.2\0"
    file = io.BytesIO(b"\0" * 128 + b"DICM" + meta + data_set)

    found = read_file_meta(file)

    assert text_of(found, 0x00020016) == "SCANNER"
    assert file.read() == data_set


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 131, b"\0" * 132 + b"DICM", b"\0" * 128 + b"DICM\2\0\x10\0UI\x40\0" + b"1"]
)
def test_what_has_no_file_meta_is_an_error(content: bytes) -> None:
    with pytest.raises(UnreadableInstanceError):
        read_file_meta(io.BytesIO(content))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_the_bytes_are_the_answer_is_a_value_or_one_error(data: st.DataObject) -> None:
    inner, dataset = Dataset(), Dataset()
    inner.CodeValue = "deep"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.ReferencedStudySequence = [inner]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.StudyInstanceUID = "1.2.3"
    syntax = data.draw(st.sampled_from(SYNTAXES))
    content = bytearray(encoded(dataset, syntax))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]

    try:
        found = scan(io.BytesIO(bytes(content)), syntax, (SOP_CLASS_UID, PATIENT_NAME, STUDY_UID))
    except UnreadableInstanceError:
        return
    assert set(found) <= {SOP_CLASS_UID, PATIENT_NAME, STUDY_UID}
    assert all(len(value) <= LONGEST_VALUE for value in found.values())

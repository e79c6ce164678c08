import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.web.metadata import LONGEST_INLINE, encode_metadata, read_bulk, read_metadata
from tests.phantoms import mr_image, write

LONG = bytes(range(256)) * 8


def saved(folder: Path) -> Path:
    dataset = mr_image("metadata", 0, np.zeros((8, 6), np.uint16))
    item = Dataset()
    item.EncapsulatedDocument = LONG
    item.add_new(0x00091001, "FD", float("nan"))
    dataset.add_new(0x00091002, "SQ", [Dataset(), item])
    dataset.ICCProfile = LONG[:LONGEST_INLINE]
    dataset["EchoTime"]._value = "3.0"
    (path,) = write(folder, [dataset])
    return path


def test_long_values_are_named_by_their_trail_and_can_be_read_by_it(tmp_path: Path) -> None:
    path = saved(tmp_path)
    document = read_metadata(path, address="here")
    nested = document["00091002"]["Value"][1]["00420011"]
    assert nested == {"vr": "OB", "BulkDataURI": "here/00091002/1/00420011"}
    assert read_bulk(path, "00091002/1/00420011") == LONG
    assert "InlineBinary" in document["00282000"]
    assert document["7FE00010"] == {"vr": "OW", "BulkDataURI": "here/7FE00010"}


@pytest.mark.parametrize(
    "trail", ["00420011", "00091002/7/00420011", "00100010/0/00420011", "../..", "00091002", "", "7FE00010/1"]
)
def test_a_trail_that_leads_nowhere_is_an_error(tmp_path: Path, trail: str) -> None:
    with pytest.raises(KeyError):
        read_bulk(saved(tmp_path), trail)


def test_numbers_that_json_lacks_are_spelled(tmp_path: Path) -> None:
    document = json.loads(encode_metadata(read_metadata(saved(tmp_path), address="here")))
    assert document["00091002"]["Value"][1]["00091001"]["Value"] == ["NaN"]


def test_a_value_that_is_none_of_its_kind_is_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"DS\x04\x003.0 ", b"DS\x04\x00x.y "))
    document = read_metadata(path, address="here")
    assert "00180081" not in document
    assert document["00180080"]["Value"] == [8.0]


def test_a_header_with_two_depths_still_has_metadata(tmp_path: Path) -> None:
    dataset = mr_image("depths", 0, np.zeros((8, 6), np.uint16))
    dataset.BitsAllocated = [16, 8]
    (path,) = write(tmp_path, [dataset])

    assert read_metadata(path, address="here")["00280100"] == {"vr": "US", "Value": [16, 8]}

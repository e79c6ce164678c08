import io
from dataclasses import asdict

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dicom_node.errors import UnreadableInstanceError
from dicom_node.web.listing import listing_of, read_listing
from tests.phantoms import mr_image, uid


def file_of(dataset: FileDataset) -> io.BytesIO:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file


def image() -> FileDataset:
    return mr_image("listing", 4, np.zeros((8, 6), np.uint16))


def test_a_listing_holds_what_searches_ask_for() -> None:
    dataset = image()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ReferringPhysicianName = "Müller^Ä"
    dataset.PerformedProcedureStepStartDate = "20260301"
    found = read_listing(file_of(dataset))
    assert (found.study_uid, found.series_uid) == (uid("listing", "study"), uid("listing", "series"))
    assert found.referring_physician == "Müller^Ä"
    assert (found.study_date, found.study_time, found.began_date) == ("20260301", "101500", "20260301")
    assert (found.series_number, found.instance_number, found.frames) == (1, 5, None)
    assert (found.rows, found.columns, found.bits_allocated) == (8, 6, 16)


@pytest.mark.parametrize(
    ("keyword", "value", "name", "listed"),
    [
        ("StudyDate", "2026", "study_date", ""),
        ("StudyTime", "noon", "study_time", ""),
        ("InstanceNumber", "99999999999", "instance_number", None),
    ],
)
def test_a_value_that_is_none_is_left_out(keyword: str, value: str, name: str, listed: object) -> None:
    dataset = image()
    dataset[keyword]._value = value
    assert asdict(read_listing(file_of(dataset)))[name] == listed


def test_damage_behind_the_keys_loses_what_is_behind_and_no_more() -> None:
    content = file_of(image()).getvalue()
    at = content.index(b"\x28\x00\x02\x00US")
    damaged = io.BytesIO(content[:at] + b"\x28\x00\x02\x00??" + content[at + 6 :])
    found = read_listing(damaged)
    assert (found.modality, found.rows) == ("MR", None)


def test_what_names_no_series_is_listed_nowhere() -> None:
    dataset = image()
    del dataset.SeriesInstanceUID
    assert listing_of(file_of(dataset)) is None
    with pytest.raises(UnreadableInstanceError):
        read_listing(file_of(dataset))

import io
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from dicom_node.elements import read_file_meta
from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import CODING_SCHEME, MANUFACTURER, MODEL_NAME
from dicom_node.keys import Person, read_header, read_keys
from tests.phantoms import mr_image


@pytest.fixture
def image() -> FileDataset:
    return mr_image("keys", 0, np.zeros((4, 4), np.uint16))


def written(folder: Path, image: FileDataset) -> Path:
    path = folder / "instance.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def test_a_header_says_what_the_data_set_says(tmp_path: Path, image: FileDataset) -> None:
    image.file_meta.SourceApplicationEntityTitle = "SCANNER"

    header = read_header(written(tmp_path, image))

    assert header.study_uid == image.StudyInstanceUID
    assert header.series_uid == image.SeriesInstanceUID
    assert header.sop_instance_uid == image.SOPInstanceUID
    assert header.sop_class_uid == image.SOPClassUID
    assert header.transfer_syntax_uid == image.file_meta.TransferSyntaxUID
    assert (header.modality, header.sender) == ("MR", "SCANNER")
    assert (header.study_description, header.series_description) == ("Phantom head", "T1 phantom")
    assert not header.is_own


@pytest.mark.parametrize(
    ("character_set", "text"),
    [("ISO_IR 192", "Schädel 頭部"), ("ISO_IR 100", "Schädel"), ("ISO_IR 144", "Голова")],
)
def test_descriptions_are_read_in_their_character_set(
    tmp_path: Path, image: FileDataset, character_set: str, text: str
) -> None:
    image.SpecificCharacterSet = character_set
    image.StudyDescription = text

    assert read_header(written(tmp_path, image)).study_description == text


def test_a_header_says_whom_it_is_about(tmp_path: Path, image: FileDataset) -> None:
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID, image.IssuerOfPatientID = "Über^Käthe", "17", "clinic"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19500229", "f", "031Y"

    person = read_header(written(tmp_path, image)).person

    assert person == Person(
        name="Über^Käthe", patient_id="17", issuer="clinic", birth_date=None, age_years=31.0, sex="F"
    )  # 1950 had no 29th of February


@pytest.mark.parametrize(
    ("age", "birth", "study", "years"),
    [
        ("", "19800101", "20200101", (date(2020, 1, 1) - date(1980, 1, 1)).days / 365.25),
        ("006M", "19800101", "20200101", 6 * 30.44 / 365.25),
        ("", "20210101", "20200101", None),
        ("old", "", "20200101", None),
    ],
)
def test_an_age_comes_from_the_dates_where_it_is_not_stated(
    tmp_path: Path, image: FileDataset, age: str, birth: str, study: str, years: float | None
) -> None:
    image.PatientAge, image.PatientBirthDate, image.StudyDate = age, birth, study

    assert read_header(written(tmp_path, image)).person.age_years == years


def test_an_unknown_character_set_and_control_characters_do_no_harm(
    tmp_path: Path, image: FileDataset
) -> None:
    path = written(tmp_path, image)
    content = path.read_bytes().replace(b"Phantom head", b"Ph\x1b[2Jm h\xff\0d")
    path.write_bytes(content.replace(b"T1 phantom", b"T1\r\nfaked "))

    header = read_header(path)

    assert "\x1b" not in header.study_description
    assert header.series_description == "T1 faked"


def test_own_results_are_known_by_equipment(tmp_path: Path, image: FileDataset) -> None:
    image.Manufacturer, image.ManufacturerModelName = MANUFACTURER, MODEL_NAME

    assert read_header(written(tmp_path, image)).is_own


@pytest.mark.parametrize("is_implicit", [True, False])
def test_own_results_are_known_by_coding_scheme(
    tmp_path: Path, image: FileDataset, is_implicit: bool
) -> None:
    scheme = Dataset()
    scheme.CodingSchemeDesignator = CODING_SCHEME
    scheme.CodingSchemeName = "Vigil"
    image.CodingSchemeIdentificationSequence = [scheme]
    if is_implicit:
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"

    assert read_header(written(tmp_path, image)).is_own


def test_an_image_that_mentions_our_scheme_elsewhere_is_not_ours(tmp_path: Path, image: FileDataset) -> None:
    image.StudyDescription = CODING_SCHEME

    assert not read_header(written(tmp_path, image)).is_own


@pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"])
def test_without_a_key_there_is_no_place_to_keep_it(image: FileDataset, missing: str) -> None:
    delattr(image, missing)
    buffer = io.BytesIO()
    Dataset(image).save_as(buffer, implicit_vr=False, little_endian=True)
    buffer.seek(0)

    with pytest.raises(UnreadableInstanceError, match="missing or malformed"):
        read_keys(buffer, "1.2.840.10008.1.2.1")


def test_a_key_that_is_a_path_is_no_key(tmp_path: Path, image: FileDataset) -> None:
    path = written(tmp_path, image)
    uid = str(image.StudyInstanceUID).encode()
    content = path.read_bytes()
    buffer = io.BytesIO(content.replace(uid, b"../" + b"1" * (len(uid) - 3)))
    read_file_meta(buffer)

    with pytest.raises(UnreadableInstanceError, match="missing or malformed"):
        read_keys(buffer, "1.2.840.10008.1.2.1")

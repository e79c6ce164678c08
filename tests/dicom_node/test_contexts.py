import logging
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

import dicom_node
from dicom_node import handlers
from dicom_node.contexts import (
    MAX_PDU_BYTES,
    NATIVE,
    RETIRED_STORAGE,
    TRANSFER_SYNTAXES,
    prepare_pynetdicom,
    storage_classes,
)
from dicom_node.results.codes import ResultKind
from dicom_node.scp import MAX_ASSOCIATIONS

JPIP = {f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205)}


@pytest.fixture(scope="module")
def statement() -> str:
    return (Path(dicom_node.__file__).parent / "CONFORMANCE.md").read_text()


def test_native_comes_first_and_lossless_before_lossy() -> None:
    assert TRANSFER_SYNTAXES[:2] == NATIVE
    assert TRANSFER_SYNTAXES.index(JPEG2000Lossless) < TRANSFER_SYNTAXES.index(JPEGBaseline8Bit)
    assert not JPIP & set(TRANSFER_SYNTAXES)
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES)


def test_current_and_retired_classes_are_accepted() -> None:
    classes = storage_classes()

    assert len(set(classes)) == len(classes)
    assert set(RETIRED_STORAGE) < set(classes)
    assert "1.2.840.10008.5.1.4.1.1.66.4" in classes


def test_the_library_says_nothing_however_often_it_is_prepared(caplog: pytest.LogCaptureFixture) -> None:
    prepare_pynetdicom()
    prepare_pynetdicom()

    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pynetdicom.acse").error("Calling AE title: SOMEBODY")
    assert caplog.records == []


def test_the_conformance_statement_names_every_syntax_status_and_limit(statement: str) -> None:
    for syntax in TRANSFER_SYNTAXES:
        name = syntax.removeprefix("1.2.840.10008.1.2")
        is_video = name.startswith(".4.10") and len(name) >= len(".4.100")
        if syntax not in NATIVE and not is_video:
            assert f"({name}" in statement, syntax
    for uid in RETIRED_STORAGE:
        assert uid.removeprefix("1.2.840.10008.5.1.4.1.1") in statement
    for status in (
        handlers.OUT_OF_RESOURCES,
        handlers.CLASS_MISMATCH,
        handlers.CANNOT_UNDERSTAND,
        handlers.PROCESSING_FAILURE,
    ):
        assert f"| {status:04X} |" in statement
    assert f"| {MAX_PDU_BYTES} |" in statement
    assert f"| {MAX_ASSOCIATIONS}, over all processes" in statement
    assert f"({len(storage_classes()) - len(RETIRED_STORAGE)})" in statement


def test_the_conformance_statement_has_a_row_for_every_result(statement: str) -> None:
    section = statement.partition("## 3. Result objects")[2].partition("### 3.1")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "1.2.840.10008.5" in line]

    assert len(rows) == len(ResultKind)

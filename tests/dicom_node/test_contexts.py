import logging
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
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
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.kinds import ResultKind, RetractionKind
from dicom_node.line import Line
from dicom_node.scp import MAX_ASSOCIATIONS
from dicom_node.services import modality_worklist, query
from tests.conformance_tables import statement as made_statement

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


def test_the_tables_of_the_conformance_statement_are_those_of_the_code(statement: str) -> None:
    assert statement == made_statement(), "run: python -m tests.conformance_tables"
    classes = statement.partition("## 7.")[2]
    assert len(re.findall(r"^\| .+ \| 1\.2\.840\.10008\.[\d.]+ \|$", classes, re.MULTILINE)) == len(
        storage_classes()
    )
    assert "| `NA-29` | Not calibrated: the scanner has changed |" in statement


def test_the_conformance_statement_says_who_made_the_objects(statement: str) -> None:
    assert f"| Implementation class UID | {IMPLEMENTATION_CLASS_UID}," in statement
    assert f"| Implementation version name | `{IMPLEMENTATION_VERSION}` |" in statement


def test_the_conformance_statement_names_every_key_that_is_asked(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identifiers of real calls, by what the standard calls their keys."""
    asked: list[Dataset] = []

    def find(_line: Line, keys: Dataset, **_: str) -> Iterator[Dataset]:
        asked.append(keys)
        yield from ()

    line = Line(host="127.0.0.1", port=1, called_aet="PACS", calling_aet="VIGIL")
    day = date(2026, 1, 1)
    for module in (query, modality_worklist):
        monkeypatch.setattr(module, "find", find)
    query.holds_instance(line, study_uid="1", series_uid="1.1", sop_instance_uid="1.1.1")
    query.series_counts(line, "1")
    query.classes_of(line, "1")
    query.studies_of(line, "A1")
    list(query.studies_between(line, day, day, "MR"))
    modality_worklist.ordered_priority(line, "A1")

    assert len(asked) == 6
    table = statement.partition("| query | matching keys |")[2].partition("\n\n")[0]
    told = table.replace(
        "Study, Series and SOP Instance UID", "Study Instance UID Series Instance UID SOP Instance UID"
    )
    names = {element.name for keys in asked for element in keys.iterall()} - {"Query/Retrieve Level"}
    assert {name for name in names if name not in told} == set()


def test_the_conformance_statement_has_a_row_for_every_result(statement: str) -> None:
    section = statement.partition("## 3. Result objects")[2].partition("### 3.1")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "1.2.840.10008.5" in line]

    named = {kind for row in rows for kind in re.findall(r"`(\w+)`", row.split("|")[2])}
    assert named == {*ResultKind, *RetractionKind}

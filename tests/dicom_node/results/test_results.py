import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.results import RESULT_BUILDERS, ResultContext, ResultKind, build_results, encode
from models.errors import Reason
from tests.dicom_node.results.scenes import (
    MODEL,
    PHANTOM,
    altered,
    by_kind,
    context_of,
    enhanced,
    every_kind,
    hashes,
    radiograph,
    refused,
    without_region,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def context(tmp_path: Path) -> ResultContext:
    return context_of(tmp_path, PHANTOM.datasets())


def test_another_process_at_another_time_makes_the_same_bytes(context: ResultContext) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    answer = subprocess.run(
        [sys.executable, "-m", "tests.dicom_node.results.scenes"],
        capture_output=True, check=True, cwd=ROOT, env=environment, text=True, timeout=120,
    ).stdout  # fmt: skip
    other = dict(line.split() for line in answer.splitlines())
    assert set(other) == {kind.value for kind in ResultKind} - {"pr"}
    assert other == hashes(build_results(every_kind(context)))


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": "00" * 32},
        {"config_digest": "00" * 32},
        {"model": replace(MODEL, sha256="00" * 32)},
        {"run_at": timedelta(seconds=1)},
        {"kinds": frozenset({ResultKind.SEGMENTATION, ResultKind.REPORT})},
    ],
    ids=["content", "configuration", "model", "run time", "kinds"],
)
def test_whatever_could_change_the_content_changes_every_uid(
    context: ResultContext, change: dict[str, Any]
) -> None:
    if "run_at" in change:
        change = {"run_at": context.run_at + change["run_at"]}
    first, second = by_kind(context), by_kind(replace(context, **change))
    assert not set(own_uids(first)) & set(own_uids(second))


def own_uids(results: dict[str, Dataset]) -> Iterator[str]:
    for result in results.values():
        yield result.SOPInstanceUID
        yield result.SeriesInstanceUID
    for segment in results["seg"].SegmentSequence:
        yield segment.TrackingUID
    yield results["seg"].DimensionOrganizationSequence[0].DimensionOrganizationUID


def test_uids_are_valid_and_none_is_used_twice(context: ResultContext) -> None:
    uids = list(own_uids(by_kind(context)))
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for uid in uids)


def test_encoding_is_a_part_10_file_that_names_its_own_instance(context: ResultContext) -> None:
    for result in build_results(context):
        content = encode(result.dataset)
        assert content[:132] == b"\0" * 128 + b"DICM"
        assert content == encode(result.dataset)  # encoding alters nothing
        assert result.dataset.file_meta.MediaStorageSOPInstanceUID == result.dataset.SOPInstanceUID


def test_there_is_one_builder_for_every_kind() -> None:
    assert set(RESULT_BUILDERS) == set(ResultKind)


def test_results_come_in_the_order_in_which_they_are_sent(context: ResultContext) -> None:
    # The report refers to the segmentation: an archive has the one before the other.
    assert [result.kind for result in build_results(context)] == ["seg", "sc", "sr"]


def test_a_projection_gets_picture_and_report() -> None:
    results = by_kind(radiograph())
    assert set(results) == {"sc", "sr"}
    assert not results["sc"].PatientOrientation  # unknown is not invented


@pytest.mark.parametrize(
    "wrong",
    [
        {"sources": []},
        {"scores": None},
        {"volume": None},
        {"reason": Reason.LOSSY},
        {"run_at": None},
    ],
)
def test_a_context_that_contradicts_itself_is_refused(context: ResultContext, wrong: dict[str, Any]) -> None:
    if "run_at" in wrong:
        wrong = {"run_at": context.run_at.replace(tzinfo=None)}
    with pytest.raises(ValueError, match=r"."):
        replace(context, **wrong)


def test_sources_that_name_no_study_are_refused() -> None:
    source = PHANTOM.datasets()[0]
    del source.StudyInstanceUID
    with pytest.raises(ValueError, match="no study"):
        refused([source])


def test_slices_without_their_source_are_refused(context: ResultContext) -> None:
    with pytest.raises(ValueError, match="differ in number"):
        replace(context, sources=context.sources[:3])


def odd_headers(context: ResultContext) -> ResultContext:
    def change(source: Dataset) -> None:
        source.PatientSex = "U"
        source.StudyDate = "2024-1-1"
        source.BodyPartExamined = "BRAIN"
        for keyword in ("AccessionNumber", "StudyID", "StudyTime"):
            delattr(source, keyword)

    return altered(context, change)


SCENES: dict[str, Callable[[Path], ResultContext]] = {
    "scored": lambda folder: context_of(folder, PHANTOM.datasets()),
    "enhanced": lambda folder: context_of(folder, [enhanced()]),
    "no region": lambda folder: without_region(context_of(folder, PHANTOM.datasets())),
    "odd headers": lambda folder: odd_headers(context_of(folder, PHANTOM.datasets())),
    "projection": lambda _: radiograph(),
    "not assessable": lambda _: refused(PHANTOM.datasets()),
    "later revision": lambda folder: replace(
        context_of(folder, PHANTOM.datasets()),
        predecessor_sr=("1.2.840.10008.5.1.4.1.1.88.34", "2.25.1234"),
    ),
}
ALLOWED = (
    # Private codes are declared in the object, but not in the checker's tables.
    r"Unrecognized defined term <99VIGIL> for value 1 of attribute <Coding Scheme Designator>",
    # The Device UID of contributing equipment is newer than the checker, and so is what it concludes from it.
    r"\(0x0018,0x1002\) UI Device UID",
    r"this is a Standard Extended SOP Class",
    # What a source does not say is not invented: which side, study date.
    r"is only permitted to be empty when actually unknown; .* attribute <Laterality>",
    r"would be needed to build DICOMDIR",
    # The term of a parametric map for Image Type and Frame Type is newer than the checker.
    r"Unrecognized defined term <QUANTITY> for value 4 of attribute <(Image|Frame) Type>",
)
UNKNOWN_TO_THE_CHECKER = {"seg_labelmap"}  # Supplement 243 is newer; highdicom reads it in its own test
DOCUMENTS = {"sr": "Imaging Measurement Report", "ko": "Of Interest"}


@pytest.mark.peers
@pytest.mark.parametrize("scene", SCENES)
def test_independent_checkers_accept_every_object(tmp_path: Path, scene: str) -> None:
    for tool in ("dciodvfy", "dcmdump", "dcmftest", "dsrdump"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for result in build_results(every_kind(SCENES[scene](tmp_path / "sources"))):
        path = tmp_path / f"{result.kind}.dcm"
        path.write_bytes(encode(result.dataset))
        findings = [] if result.kind in UNKNOWN_TO_THE_CHECKER else run("dciodvfy", path).stderr.splitlines()
        assert not [line for line in findings if line.startswith("Error")]
        warnings = [line for line in findings if line.startswith("Warning")]
        assert not [line for line in warnings if not any(re.search(reason, line) for reason in ALLOWED)]
        assert run("dcmftest", path).returncode == 0
        assert run("dcmdump", path).returncode == 0
        if title := DOCUMENTS.get(result.kind):
            dump = run("dsrdump", path)
            assert dump.returncode == 0
            assert title in dump.stdout


def run(tool: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool, str(path)], capture_output=True, check=False, text=True, timeout=60)

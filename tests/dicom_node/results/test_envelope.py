from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.identity import is_own
from dicom_node.results import ResultContext, ResultKind, build_results
from tests.dicom_node.results.scenes import (
    PHANTOM,
    altered,
    by_kind,
    context_of,
    enhanced,
    every_kind,
    radiograph,
    refused,
)

KINDS = {"seg", "sc", "sr"}
NAMES = {
    "ISO_IR 100": "Müller^Jürgen",
    "ISO_IR 144": "\N{CYRILLIC CAPITAL LETTER ZHE}\N{CYRILLIC SMALL LETTER YA}^\N{CYRILLIC SMALL LETTER YU}",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO_IR 192": "Wang^XiaoDong=王^小东",
}


@pytest.fixture
def context(tmp_path: Path) -> ResultContext:
    return context_of(tmp_path, PHANTOM.datasets())


@pytest.mark.parametrize("charset", NAMES)
def test_names_of_every_script_come_through(tmp_path: Path, charset: str) -> None:
    datasets = PHANTOM.datasets()
    for dataset in datasets:
        dataset.SpecificCharacterSet = charset.split("\\")
        dataset.PatientName = NAMES[charset]
    results = by_kind(every_kind(context_of(tmp_path, datasets)))
    assert len(results) == len(ResultKind) - 1  # a stack has no presentation state
    for result in results.values():
        assert result.SpecificCharacterSet == "ISO_IR 192"
        assert str(result.PatientName) == NAMES[charset]


@pytest.mark.parametrize("charset", NAMES)
def test_names_come_through_outlines_over_a_radiograph_too(charset: str) -> None:
    context = every_kind(radiograph())
    context.sources[0].SpecificCharacterSet = charset.split("\\")
    context.sources[0].PatientName = NAMES[charset]
    state = by_kind(context)["pr"]
    assert (state.SpecificCharacterSet, str(state.PatientName)) == ("ISO_IR 192", NAMES[charset])


@pytest.mark.parametrize(
    "keyword",
    [
        "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "PatientSex", "PatientBirthDate",
        "PatientName", "PatientID", "ReferringPhysicianName",
    ],
)  # fmt: skip
def test_a_missing_attribute_of_type_2_is_there_and_empty(context: ResultContext, keyword: str) -> None:
    results = by_kind(altered(context, lambda source: delattr(source, keyword)))
    assert set(results) == KINDS
    for result in results.values():
        assert result[keyword].is_empty


@pytest.mark.parametrize(
    ("keyword", "bad"),
    [
        ("PatientSex", "U"),
        ("PatientSex", "male"),
        ("PatientBirthDate", "1970.01.01"),
        ("PatientBirthDate", "19701399"),
        ("StudyDate", "yesterday"),
        ("StudyTime", "25:61"),
        ("StudyTime", "256100"),
        ("PatientAge", "fifty"),
        ("BodyPartExamined", "brain (head)"),
    ],
)
def test_a_value_the_standard_forbids_is_not_passed_on(
    context: ResultContext, keyword: str, bad: str
) -> None:
    results = by_kind(altered(context, lambda source: setattr(source, keyword, bad)))
    assert set(results) == KINDS
    for result in results.values():
        assert not result.get(keyword)


def test_text_that_is_too_long_is_shortened_to_what_fits(context: ResultContext) -> None:
    def change(source: Dataset) -> None:
        source.AccessionNumber = "A" * 30
        source.PatientID = "9" * 90
        source.PatientName = "N" * 100 + "^First"
        source.StudyDescription = "head\x07 " + "d" * 100

    for result in by_kind(altered(context, change)).values():
        assert result.AccessionNumber == "A" * 16
        assert result.PatientID == "9" * 64
        assert str(result.PatientName) == "N" * 64
        assert result.StudyDescription.startswith("head d")
        assert len(result.StudyDescription) == 64


def test_sources_are_left_as_they_were(context: ResultContext) -> None:
    before = [source.to_json() for source in context.sources]
    build_results(context)
    assert [source.to_json() for source in context.sources] == before


def test_every_result_is_in_the_study_of_its_source_in_a_series_of_its_own(context: ResultContext) -> None:
    results = by_kind(context)
    series = {result.SeriesInstanceUID for result in results.values()}
    assert {result.StudyInstanceUID for result in results.values()} == {context.study_uid}
    assert len(series) == 3
    assert context.sources[0].SeriesInstanceUID not in series
    assert sorted(result.SeriesNumber for result in results.values()) == [9001, 9003, 9004]


def test_private_and_operator_data_are_not_copied(context: ResultContext) -> None:
    def change(source: Dataset) -> None:
        source.OperatorsName = "Op^Erator"
        source.StationName = "STATION7"
        source.ProtocolName = "Secret protocol"
        source.private_block(0x0019, "ACME", create=True).add_new(1, "LO", "private")

    for result in by_kind(altered(context, change)).values():
        for keyword in ("OperatorsName", "StationName", "ProtocolName"):
            assert keyword not in result
        assert not [element for element in result if element.tag.is_private]


def test_dates_are_the_run_time_and_nothing_else(context: ResultContext) -> None:
    for result in by_kind(context).values():
        for stem in ("InstanceCreation", "Series", "Content"):
            assert (result[f"{stem}Date"].value, result[f"{stem}Time"].value) == ("20260304", "050607")
        times = [item.get("ContributionDateTime") for item in result.ContributingEquipmentSequence]
        assert {time for time in times if time} == {"20260304050607+0000"}
        assert "TimezoneOffsetFromUTC" not in result


def test_dates_follow_the_zone_of_the_source_where_it_states_one(context: ResultContext) -> None:
    results = by_kind(altered(context, lambda source: setattr(source, "TimezoneOffsetFromUTC", "-0530")))
    for result in results.values():
        assert result.TimezoneOffsetFromUTC == "-0530"
        assert (result.ContentDate, result.ContentTime) == ("20260303", "233607")  # 05:06:07 less 5:30


def test_the_same_moment_in_another_zone_gives_the_same_uids(context: ResultContext) -> None:
    moved = replace(context, run_at=context.run_at.astimezone(timezone(timedelta(hours=9))))
    first, second = by_kind(context), by_kind(moved)
    assert {kind: result.SOPInstanceUID for kind, result in first.items()} == {
        kind: result.SOPInstanceUID for kind, result in second.items()
    }


@pytest.mark.parametrize("make", [PHANTOM.datasets, lambda: [enhanced()]])
def test_vigil_knows_every_one_of_its_results_again(tmp_path: Path, make: Callable[[], list]) -> None:
    results = by_kind(every_kind(context_of(tmp_path, make())))
    assert len(results) == len(ResultKind) - 1
    assert all(is_own(result) for result in by_kind(every_kind(radiograph())).values())
    assert all(is_own(result) for result in results.values())
    assert all(is_own(result) for result in by_kind(refused(PHANTOM.datasets()[:1])).values())
    assert not any(is_own(dataset) for dataset in PHANTOM.datasets())


def test_a_retrained_model_is_another_device(context: ResultContext) -> None:
    def device(changed: ResultContext) -> str:
        (item,) = (
            item for item in by_kind(changed)["sr"].ContributingEquipmentSequence if "DeviceUID" in item
        )
        return str(item.DeviceUID)

    assert device(context) != device(replace(context, model=replace(context.model, sha256="0e" * 32)))
    assert device(context) == device(replace(context, content_hash="0e" * 32))

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.errors import UnreadableInstanceError
from dicom_node.header import read_dataset
from dicom_node.results import ResultContext, build_results, codes, encode
from models.errors import Reason
from tests.dicom_node.results.scenes import (
    MODEL,
    PHANTOM,
    altered,
    by_kind,
    context_of,
    enhanced,
    refused,
    without_region,
)


@pytest.fixture
def context(tmp_path: Path) -> ResultContext:
    return context_of(tmp_path, PHANTOM.datasets())


def report_of(context: ResultContext) -> Dataset:
    return by_kind(context)["sr"]


def items(root: Dataset) -> Iterator[Dataset]:
    """Every content item of a report."""
    for item in root.get("ContentSequence", []):
        yield item
        yield from items(item)


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def numbers(report: Dataset, code: str) -> list[float]:
    return [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in items(report)
        if item.ValueType == "NUM" and name(item) == code
    ]


def coded_values(report: Dataset, code: str) -> set[str]:
    return {
        item.ConceptCodeSequence[0].CodeValue
        for item in items(report)
        if item.ValueType == "CODE" and name(item) == code
    }


def texts(report: Dataset) -> str:
    return "\n".join(item.TextValue for item in items(report) if item.ValueType == "TEXT")


def test_score_percentile_p_and_ranking_are_there_once_and_not_confused(context: ResultContext) -> None:
    report = report_of(context)
    assert numbers(report, "ANOM-SCORE") == [1.25]
    assert numbers(report, "P-VALUE") == pytest.approx([2 / 7])
    assert numbers(report, "NORM-PCT") == pytest.approx([100 * 2 / 7])
    assert numbers(report, "121415") == pytest.approx([100 * 5 / 7])


def test_a_scored_study_is_never_called_normal_or_abnormal(context: ResultContext) -> None:
    for changed in (context, without_region(context)):
        report = report_of(changed)
        assert coded_values(report, "121402") == {"371934000"}
        values = {item.ConceptCodeSequence[0].CodeValue for item in items(report) if item.ValueType == "CODE"}
        assert not values & {"17621005", "263654008"}  # SCT Normal, Abnormal


def test_a_small_reference_group_is_called_small_and_a_large_one_is_not(context: ResultContext) -> None:
    assert context.scores is not None
    assert "n = 6, below 50" in texts(report_of(context))
    assert "no percentile below 14.3 can occur" in texts(report_of(context))  # 100 / (6 + 1)
    large = replace(MODEL, n=50)
    report = report_of(replace(context, model=large, scores=replace(context.scores, model=large)))
    assert "small" not in texts(report)
    assert "n = 50" in texts(report)


def test_model_calibration_configuration_group_and_time_are_named(context: ResultContext) -> None:
    words = texts(report_of(context))
    for needed in (
        MODEL.sha256, MODEL.calibration_sha256, "2026-10-02", MODEL.group,
        context.config_digest, "2026-03-04T05:06:07+00:00", MODEL.disclaimer, codes.DISCLAIMER,
    ):  # fmt: skip
        assert needed in words


def test_every_band_has_a_group_with_its_segment_volume_maximum_and_mean(context: ResultContext) -> None:
    results = by_kind(context)
    report, segmentation = results["sr"], results["seg"]
    groups = hd.sr.srread(io.BytesIO(encode(report))).content.get_volumetric_roi_measurement_groups()
    voxel_cm3 = 3.0 * 2.0 * 1.5 / 1000
    expected = [(3, (0.9 + 0.6 + 0.4) / 3), (2, (0.9 + 0.6) / 2), (1, 0.9)]
    assert len(groups) == 3
    for index, (group, (voxels, mean)) in enumerate(zip(groups, expected, strict=True)):
        (volume,) = group.get_measurements(name=codes.VOLUME)
        assert volume.value == pytest.approx(voxels * voxel_cm3)
        maximum, average = group.get_measurements(name=codes.ANOMALY_MAP_VALUE)
        assert (maximum.value, average.value) == pytest.approx((0.9, mean))
        segment = segmentation.SegmentSequence[index]
        assert group.tracking_uid == segment.TrackingUID
        assert group.referenced_segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers[0] == segment.SegmentNumber


def test_without_a_voxel_in_a_band_the_report_says_so_and_refers_to_no_segment(
    context: ResultContext,
) -> None:
    report = report_of(without_region(context))
    assert codes.NO_REGION in texts(report)
    assert numbers(report, "118565006") == []
    assert codes.NO_REGION not in texts(report_of(context))


def test_bands_keep_their_numbers_where_no_segmentation_can_be_made(context: ResultContext) -> None:
    report = report_of(altered(context, lambda source: delattr(source, "FrameOfReferenceUID")))
    assert len(numbers(report, "118565006")) == 3
    assert not [item for item in items(report) if name(item) == "121191"]  # Referenced Segment


@pytest.mark.parametrize("reason", Reason)
def test_not_assessable_has_its_reason_and_no_number(reason: Reason) -> None:
    (result,) = build_results(refused(PHANTOM.datasets()[:1], reason))
    assert result.kind == "sr"
    report = result.dataset
    assert not [item for item in items(report) if item.ValueType == "NUM"]
    assert coded_values(report, "NA-REASON") == {codes.REASONS[reason].value}
    assert coded_values(report, "121402") == {"371934000"}
    assert coded_values(report, "ASSESSMENT") == {"NOT-ASSESSABLE"}
    assert "Scout images only." in texts(report)
    assert codes.NOT_ASSESSED in texts(report)


def test_no_two_reasons_share_a_code() -> None:
    assert len({code.value for code in codes.REASONS.values()}) == len(Reason)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in codes.REASONS.values())


def test_key_slice_is_the_image_with_the_peak(context: ResultContext) -> None:
    bright = context.sources[PHANTOM.bright[0]].SOPInstanceUID
    assert key_images(report_of(context)) == [(bright, None)]


def test_key_slice_of_an_enhanced_object_is_its_frame(tmp_path: Path) -> None:
    source = enhanced()
    report = report_of(context_of(tmp_path, [source]))
    # Six frames against the geometric order: slice 2, counted from 0, is frame 4, counted from 1.
    assert key_images(report) == [(source.SOPInstanceUID, 4)]


def key_images(report: Dataset) -> list[tuple[str, int | None]]:
    images = [
        item.ReferencedSOPSequence[0]
        for item in items(report)
        if item.ValueType == "IMAGE" and name(item) == "121112"  # Source of Measurement
    ]
    return [(image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")) for image in images]


def test_evidence_holds_every_source_and_the_segmentation(context: ResultContext) -> None:
    results = by_kind(context)
    (study,) = results["sr"].CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == context.study_uid
    found = {
        (series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    segmentation = results["seg"]
    assert found == {(source.SeriesInstanceUID, source.SOPInstanceUID) for source in context.sources} | {
        (segmentation.SeriesInstanceUID, segmentation.SOPInstanceUID)
    }


def test_a_later_report_names_the_one_before_with_its_series(context: ResultContext) -> None:
    first = report_of(context)
    later = replace(context, content_hash="f2" * 32, predecessor_sr=(first.SOPClassUID, first.SOPInstanceUID))
    (study,) = report_of(later).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in first


def test_a_report_without_a_score_says_in_words_that_the_one_before_holds_no_longer() -> None:
    first = refused(PHANTOM.datasets()[:1])
    before = report_of(first)
    later = replace(first, content_hash="f2" * 32, predecessor_sr=(before.SOPClassUID, before.SOPInstanceUID))
    assert codes.ALL_SUPERSEDED in texts(report_of(later))
    assert codes.ALL_SUPERSEDED not in texts(before)


def test_report_is_complete_unverified_and_preliminary(context: ResultContext) -> None:
    report = report_of(context)
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_a_study_without_a_single_image_gets_its_report() -> None:
    source = PHANTOM.datasets()[0]
    document = Dataset()
    document.SOPClassUID = EncapsulatedPDFStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(document, keyword, source[keyword].value)
    report = report_of(refused([document], Reason.NO_IMAGES))
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    item = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert item.ReferencedSOPClassUID == EncapsulatedPDFStorage


@pytest.mark.parametrize("bad", ["not a uid", "....", "1.2.03", ""])
def test_a_source_that_cannot_be_referred_to_is_left_out_of_the_evidence(bad: str) -> None:
    source = PHANTOM.datasets()[0]
    source.SOPInstanceUID = bad
    assert "CurrentRequestedProcedureEvidenceSequence" not in report_of(refused([source]))


@pytest.mark.slow
def test_whatever_header_real_files_have_a_report_can_be_made_of_it(test_data: Path) -> None:
    made = 0
    for path in sorted(path for path in (test_data / "dicom").rglob("*") if path.is_file()):
        try:
            header = read_dataset(path)
        except UnreadableInstanceError:
            continue
        if not header.get("StudyInstanceUID"):  # never reaches a study folder
            continue
        report = report_of(refused([header], Reason.UNDECODABLE))
        assert coded_values(report, "NA-REASON") == {"NA-18"}
        made += 1
    assert made > 300

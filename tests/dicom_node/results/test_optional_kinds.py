"""Kinds that are built only where a site asks for them."""

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from dicom_node.results import DEFAULT_KINDS, ResultContext, ResultKind, build_results, encode
from dicom_node.results.outlines import outlines
from tests.dicom_node.results.scenes import (
    PHANTOM,
    by_kind,
    context_of,
    enhanced,
    every_kind,
    hashes,
    radiograph,
    refused,
    without_region,
)
from tests.phantoms import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Phantom

REVERSED = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))  # slices run to the feet, rows to the patient's right


@pytest.fixture
def context(tmp_path: Path) -> ResultContext:
    return every_kind(context_of(tmp_path, PHANTOM.datasets()))


def test_nothing_but_the_three_is_built_unless_asked_for(context: ResultContext) -> None:
    assert set(by_kind(replace(context, kinds=DEFAULT_KINDS))) == {"seg", "sc", "sr"}


def test_a_stack_gets_every_kind_but_the_presentation_state(context: ResultContext) -> None:
    assert [result.kind for result in build_results(context)] == [
        "seg", "seg_fractional", "seg_labelmap", "pm", "sc", "sr", "ko",
    ]  # fmt: skip


def test_a_projection_gets_what_needs_no_place_in_space() -> None:
    assert set(by_kind(every_kind(radiograph()))) == {"sc", "sr", "ko", "pr"}


def test_not_assessable_is_the_report_alone_whatever_is_asked_for() -> None:
    assert set(by_kind(every_kind(refused(PHANTOM.datasets())))) == {"sr"}


def test_nothing_of_interest_gives_map_picture_and_report(context: ResultContext) -> None:
    assert set(by_kind(without_region(context))) == {"pm", "sc", "sr"}


def test_the_report_is_never_left_out(context: ResultContext) -> None:
    with pytest.raises(ValueError, match="report"):
        replace(context, kinds=frozenset({ResultKind.SEGMENTATION}))


def test_a_report_without_a_segmentation_beside_it_refers_to_none(context: ResultContext) -> None:
    results = by_kind(replace(context, kinds=frozenset({ResultKind.REPORT})))
    assert set(results) == {"sr"}
    assert "Segmentation Storage" not in str(results["sr"])


def test_the_same_context_gives_the_same_bytes_of_every_kind(context: ResultContext) -> None:
    assert hashes(build_results(context)) == hashes(build_results(context))
    assert hashes(build_results(every_kind(radiograph()))) == hashes(build_results(every_kind(radiograph())))


@pytest.mark.parametrize("directions", [AXIAL, CORONAL, SAGITTAL, OBLIQUE, REVERSED])
def test_the_peak_of_the_map_lies_where_the_bright_voxel_was_put(
    tmp_path: Path, directions: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    phantom = Phantom(directions=directions)
    context = every_kind(context_of(tmp_path, phantom.datasets()))
    for kind in ("pm", "seg_fractional"):
        volume = read_image(context, kind).get_volume(apply_real_world_transform=kind == "pm")
        place = np.unravel_index(volume.array.argmax(), volume.array.shape)
        millimetres = volume.affine @ np.append(place, 1.0)
        assert np.abs(millimetres[:3] - phantom.bright_mm).max() < min(phantom.spacing_mm) / 2


def read_image(context: ResultContext, kind: str) -> hd.Image:
    (made,) = (result.dataset for result in build_results(context) if result.kind == kind)
    return hd.imread(io.BytesIO(encode(made)))


@pytest.mark.parametrize("is_enhanced", [False, True])
def test_the_map_comes_back_as_it_was(tmp_path: Path, *, is_enhanced: bool) -> None:
    context = every_kind(context_of(tmp_path, [enhanced()] if is_enhanced else PHANTOM.datasets()))
    assert context.scores is not None
    assert context.volume is not None
    made = by_kind(context)["pm"]
    assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    values = made.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    for frame, plane in zip(made.PerFrameFunctionalGroupsSequence, values, strict=True):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        index = np.linalg.inv(context.volume.affine) @ np.append(position, 1.0)
        np.testing.assert_array_equal(plane, context.scores.map[round(index[0])])
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID in {one.SOPInstanceUID for one in context.sources}


def test_a_value_above_the_display_is_its_end(context: ResultContext) -> None:
    assert context.scores is not None
    context.scores.map[0, 0, 1] = 1.5
    values = read_image(context, "pm").get_volume(apply_real_world_transform=True).array
    assert values.max() == pytest.approx(1.0)


def test_fractions_are_the_map_inside_the_lowest_band_and_nothing_outside(context: ResultContext) -> None:
    assert context.scores is not None
    (made,) = (result.dataset for result in build_results(context) if result.kind == "seg_fractional")
    pixels = hd.seg.segread(io.BytesIO(encode(made))).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in context.sources],
        assert_missing_frames_are_empty=True,
        rescale_fractional=True,
    )[..., 0]
    expected = np.where(context.scores.map >= context.scores.bands[0], context.scores.map, 0)
    assert np.abs(pixels - expected).max() <= 0.5 / 255 + 1e-6
    assert "not a probability" in made.ContentDescription


def test_every_fractional_frame_names_its_segment_itself(context: ResultContext) -> None:
    made = by_kind(context)["seg_fractional"]
    assert "SegmentIdentificationSequence" not in made.SharedFunctionalGroupsSequence[0]
    for frame in made.PerFrameFunctionalGroupsSequence:
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1


def test_a_label_is_the_highest_band_of_its_voxel(context: ResultContext) -> None:
    assert context.scores is not None
    (made,) = (result.dataset for result in build_results(context) if result.kind == "seg_labelmap")
    pixels = hd.seg.segread(io.BytesIO(encode(made))).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in context.sources],
        assert_missing_frames_are_empty=True,
        combine_segments=True,
    )
    expected = sum((context.scores.map >= band).astype(int) for band in context.scores.bands)
    np.testing.assert_array_equal(pixels, expected)


def test_segments_of_different_objects_are_different_things(context: ResultContext) -> None:
    results = by_kind(context)
    uids = [
        segment.TrackingUID
        for kind in ("seg", "seg_fractional", "seg_labelmap")
        for segment in results[kind].SegmentSequence
        if "TrackingUID" in segment
    ]
    assert len(uids) == 3 + 1 + 3
    assert len(set(uids)) == len(uids)


def test_key_objects_name_the_image_with_the_peak_and_no_other(context: ResultContext) -> None:
    made = by_kind(context)["ko"]
    bright = context.sources[PHANTOM.bright[0]].SOPInstanceUID
    assert made.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    assert images_of(made) == [(bright, None)]
    (study,) = made.CurrentRequestedProcedureEvidenceSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == bright


def test_key_objects_of_an_enhanced_object_name_the_frame(tmp_path: Path) -> None:
    source = enhanced()
    made = by_kind(every_kind(context_of(tmp_path, [source])))["ko"]
    assert images_of(made) == [(source.SOPInstanceUID, 4)]  # slice 2 from 0; the frames run the other way


def images_of(document: Dataset) -> list[tuple[str, int | None]]:
    return [
        (
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
            item.ReferencedSOPSequence[0].get("ReferencedFrameNumber"),
        )
        for item in document.ContentSequence
        if item.ValueType == "IMAGE"
    ]


def test_key_objects_are_read_by_highdicom(context: ResultContext) -> None:
    (made,) = (result.dataset for result in build_results(context) if result.kind == "ko")
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(made)
    (reference,) = document.content.get_references()
    assert reference.referenced_sop_instance_uid == context.sources[PHANTOM.bright[0]].SOPInstanceUID


def test_outlines_stand_around_the_lowest_band_in_columns_and_rows() -> None:
    context = every_kind(radiograph())
    assert context.scores is not None
    state = by_kind(context)["pr"]
    (annotation,) = state.GraphicAnnotationSequence
    (expected,) = outlines(context.scores.map[0] >= context.scores.bands[0])
    (polyline,) = annotation.GraphicObjectSequence
    assert (polyline.GraphicType, polyline.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
    points = np.array(polyline.GraphicData).reshape(-1, 2)
    np.testing.assert_array_equal(points, expected[:, ::-1])
    words = annotation.TextObjectSequence[0].UnformattedTextValue
    assert "NOT FOR DIAGNOSTIC USE" in words
    assert "28.6" in words
    (image,) = annotation.ReferencedImageSequence
    assert image.ReferencedSOPInstanceUID == context.sources[0].SOPInstanceUID


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_polarity_and_window_of_the_image_are_kept(photometric: str, shape: str) -> None:
    context = every_kind(radiograph())
    source = context.sources[0]
    source.PhotometricInterpretation = photometric
    source.RescaleSlope, source.RescaleIntercept, source.RescaleType = 2, -3, "US"
    source.WindowCenter, source.WindowWidth = [400, 50], [350, 40]
    state = by_kind(context)["pr"]
    assert state.PresentationLUTShape == shape
    assert (state.RescaleSlope, state.RescaleIntercept) == (2, -3)
    (window,) = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (400, 350)


@pytest.mark.parametrize("width", [b"", b"0 ", b"odd ", b"0.5\\x"])
def test_a_window_that_is_none_is_left_out(width: bytes) -> None:
    context = every_kind(radiograph())
    source = context.sources[0]
    source.WindowCenter = 40
    tag = Tag("WindowWidth")
    source[tag] = RawDataElement(tag, "DS", len(width), width, 0, False, True)
    assert "SoftcopyVOILUTSequence" not in by_kind(context)["pr"]


def test_a_lookup_table_of_the_image_is_kept_entry_by_entry() -> None:
    context = every_kind(radiograph())
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4, -2, 16])
    table.add_new("LUTData", "US", [0, 10, 500, 65535])
    context.sources[0].VOILUTSequence = [table]
    (window,) = by_kind(context)["pr"].SoftcopyVOILUTSequence
    (copy,) = window.VOILUTSequence
    assert list(copy.LUTDescriptor) == [4, -2, 16]
    assert np.frombuffer(copy.LUTData, "<u2").tolist() == [0, 10, 500, 65535]


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dcmp2pgm") is None, reason="dcmtk is not installed")
def test_dcmtk_takes_the_state_for_its_image_and_reads_the_outline(tmp_path: Path) -> None:
    image = PHANTOM.datasets()[0]
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    (state,) = (result.dataset for result in build_results(every_kind(radiograph())) if result.kind == "pr")
    (tmp_path / "state.dcm").write_bytes(encode(state))
    command = ["dcmp2pgm", "-v", "-p", tmp_path / "state.dcm", tmp_path / "image.dcm", tmp_path / "out.pgm"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.pgm").stat().st_size > 100
    # Band 1 holds the pixels (3, 3) and (4, 3): columns 3 to 4, rows 3 to 5.
    assert "coordinates: 3\\3, 4\\3, 4\\5, 3\\5, 3\\3" in done.stderr
    assert "NOT FOR DIAGNOSTIC USE" in done.stderr

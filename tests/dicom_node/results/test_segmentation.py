import io
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.results import ResultContext, build_results, encode
from dicom_node.results.segmentation import band_masks
from tests.dicom_node.results.scenes import (
    MODEL,
    PHANTOM,
    altered,
    by_kind,
    context_of,
    enhanced,
    without_region,
)
from tests.phantoms import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Phantom


def read_back(context: ResultContext) -> hd.seg.Segmentation:
    (segmentation,) = (result.dataset for result in build_results(context) if result.kind == "seg")
    return hd.seg.segread(io.BytesIO(encode(segmentation)))


def expected_masks(context: ResultContext) -> np.ndarray:
    assert context.scores is not None
    return np.stack([context.scores.map >= band for band in context.scores.bands])


@pytest.mark.parametrize("directions", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
def test_every_band_comes_back_voxel_for_voxel_by_source_image(
    tmp_path: Path, directions: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    context = context_of(tmp_path, Phantom(directions=directions).datasets())
    pixels = read_back(context).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in context.sources], assert_missing_frames_are_empty=True
    )  # (slices, rows, columns, segments)
    assert np.array_equal(np.moveaxis(pixels, -1, 0).astype(bool), expected_masks(context))


@pytest.mark.parametrize("directions", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
def test_highest_band_lies_where_the_bright_voxel_was_put_in_the_patient(
    tmp_path: Path, directions: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    phantom = Phantom(directions=directions)
    volume = read_back(context_of(tmp_path, phantom.datasets())).get_volume(combine_segments=False)
    (place,) = np.argwhere(volume.array[..., 2])
    millimetres = volume.affine @ np.append(place, 1.0)
    assert np.abs(millimetres[:3] - phantom.bright_mm).max() < min(phantom.spacing_mm) / 2


def test_bands_are_nested_and_hold_three_two_and_one_voxel(tmp_path: Path) -> None:
    context = context_of(tmp_path, PHANTOM.datasets())
    assert context.scores is not None
    low, middle, high = band_masks(context.scores)
    assert [int(mask.sum()) for mask in (low, middle, high)] == [3, 2, 1]
    assert (low >= middle).all()
    assert (middle >= high).all()


def test_frames_without_voxels_are_left_out(tmp_path: Path) -> None:
    segmentation = by_kind(context_of(tmp_path, PHANTOM.datasets()))["seg"]
    assert segmentation.NumberOfFrames == 2 + 1 + 1  # the lowest band reaches two slices
    assert len(segmentation.SegmentSequence) == 3


def test_a_band_without_voxels_stays_described(tmp_path: Path) -> None:
    context = context_of(tmp_path, PHANTOM.datasets())
    assert context.scores is not None
    np.minimum(context.scores.map, 0.4, out=context.scores.map)  # nothing above the lowest band
    segmentation = by_kind(context)["seg"]
    assert len(segmentation.SegmentSequence) == 3
    numbers = {
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    }
    assert numbers == {1}


def test_no_voxel_in_a_band_gives_no_segmentation(tmp_path: Path) -> None:
    assert set(by_kind(without_region(context_of(tmp_path, PHANTOM.datasets())))) == {"sc", "sr"}


def test_sources_without_a_frame_of_reference_give_the_other_results(tmp_path: Path) -> None:
    context = altered(
        context_of(tmp_path, PHANTOM.datasets()), lambda source: delattr(source, "FrameOfReferenceUID")
    )
    assert set(by_kind(context)) == {"sc", "sr"}


def test_an_enhanced_object_is_segmented_frame_by_frame(tmp_path: Path) -> None:
    source = enhanced()
    context = context_of(tmp_path, [source])
    segmentation = read_back(context)
    pixels = segmentation.get_pixels_by_source_frame(
        source.SOPInstanceUID,
        list(range(1, source.NumberOfFrames + 1)),
        assert_missing_frames_are_empty=True,
    )
    # The frames of the source run against the geometric order of the volume.
    assert np.array_equal(np.moveaxis(pixels, -1, 0).astype(bool), expected_masks(context)[:, ::-1])


def test_orientations_that_differ_by_rounding_are_no_obstacle(tmp_path: Path) -> None:
    datasets = PHANTOM.datasets()
    datasets[1].ImageOrientationPatient = [1.0, 0.0, 0.0002, 0.0, 1.0, 0.0]
    assert "seg" in by_kind(context_of(tmp_path, datasets))


def test_every_frame_names_the_image_it_derives_from(tmp_path: Path) -> None:
    context = context_of(tmp_path, PHANTOM.datasets())
    sources = {source.SOPInstanceUID for source in context.sources}
    segmentation = by_kind(context)["seg"]
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        assert image.ReferencedSOPInstanceUID in sources
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert segmentation.FrameOfReferenceUID == context.sources[0].FrameOfReferenceUID


def test_segments_claim_no_more_than_an_anomalous_region(tmp_path: Path) -> None:
    segmentation = by_kind(context_of(tmp_path, PHANTOM.datasets()))["seg"]
    for segment in segmentation.SegmentSequence:
        assert code(segment.SegmentedPropertyTypeCodeSequence) == ("ANOM-REG", "99VIGIL")
        assert code(segment.SegmentedPropertyCategoryCodeSequence) == ("49755003", "SCT")
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (MODEL.name, MODEL.version)
        assert code(algorithm.AlgorithmFamilyCodeSequence) == ("123110", "DCM")
        assert MODEL.sha256[:12] in algorithm.AlgorithmParameters
    assert segmentation.ContentCreatorName == ""


def code(sequence: list[Dataset]) -> tuple[str, str]:
    return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator

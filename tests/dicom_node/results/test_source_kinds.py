"""What each kind of source gets: the best the standard has for it (PS3.3 A.51, A.75, A.33)."""

import io
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundMultiFrameImageStorage

from dicom_node.reader import list_series, read_headers, read_volume
from dicom_node.results import ResultContext, build_results, encode
from models.artefact import SeriesRules, load_artefact, write_manifest
from models.predictor import load_predictor
from models.volume import Volume
from service.selection import judge
from tests.dicom_node.results.scenes import (
    MODEL,
    by_kind,
    every_kind,
    refused,
    scores_for,
    two_stacks,
)
from tests.phantoms import write
from tests.picture_models import manifest, write_artefact
from tests.projections import BRIGHT, radiograph, ultrasound


def contexts_of(folder: Path, source: Dataset, bright: tuple[int, int, int]) -> list[ResultContext]:
    """Scored context of every stack or picture of one object."""
    contexts = []
    for series in list_series(write(folder, [source])):
        volume = read_volume(series, max_voxels=1 << 24)
        sources = read_headers(series)
        scored = {"volume": volume, "scores": scores_for(volume, bright), "reason": None}
        contexts.append(every_kind(replace(refused(sources), **scored)))
    return contexts


def numbers(report: Dataset, code: str) -> list[float]:
    found = []
    for item in report.get("ContentSequence", []):
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == code:
            found.append(float(item.MeasuredValueSequence[0].NumericValue))
        found += numbers(item, code)
    return found


@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_a_radiograph_scored_by_a_picture_model_gets_picture_report_key_image_and_outlines(
    tmp_path: Path, modality: str
) -> None:
    rules = SeriesRules(
        modality=modality, body_parts=(), age_years=(0, 130), accepts_contrast=True, accepts_lossy=False
    )
    artefact = write_artefact(tmp_path / "model")
    write_manifest(artefact, manifest(applicability=rules))
    source = radiograph(modality=modality)
    pixels = np.full((40, 32), 2048, np.uint16)  # the model takes middle grey for usual
    pixels[0, 0] = 1
    pixels[6:12, 18:24] = 4095
    source.PixelData = pixels.tobytes()
    paths = write(tmp_path / "study", [source])

    verdict = judge(paths, load_predictor(load_artefact(artefact)), max_voxels=1 << 24)

    assert verdict.reason is None
    assert verdict.series is not None
    context = every_kind(
        replace(
            refused(read_headers(verdict.series)), reason=None, volume=verdict.volume, scores=verdict.scores
        )
    )
    results = by_kind(context)
    assert set(results) == {"sc", "sr", "ko", "pr"}
    assert context.scores is not None
    seen = context.scores.map[0] >= context.scores.bands[0]
    assert seen[BRIGHT]
    assert not seen[20:].any()
    points = np.concatenate(
        [
            np.array(graphic.GraphicData).reshape(-1, 2)
            for graphic in results["pr"].GraphicAnnotationSequence[0].GraphicObjectSequence
        ]
    )
    assert points[:, 0].min() <= BRIGHT[1] <= points[:, 0].max()
    assert points[:, 1].min() <= BRIGHT[0] <= points[:, 1].max()
    for result in results.values():
        assert "FrameOfReferenceUID" not in result


def test_sizes_on_a_radiograph_are_areas_and_none_where_no_scale_is_stated(tmp_path: Path) -> None:
    volume_code, area_code = "118565006", "42798000"
    (context,) = contexts_of(tmp_path / "scaled", radiograph(), (0, 9, 21))
    report = by_kind(context)["sr"]
    assert numbers(report, volume_code) == []
    assert numbers(report, area_code) == pytest.approx([2 * 0.04, 2 * 0.04, 0.04])
    unscaled = radiograph()
    del unscaled.ImagerPixelSpacing
    (context,) = contexts_of(tmp_path / "unscaled", unscaled, (0, 9, 21))
    assert numbers(by_kind(context)["sr"], area_code) == []


def test_sides_of_a_radiograph_are_those_it_states(tmp_path: Path) -> None:
    source = radiograph()
    source.PatientOrientation = ["P", "F"]
    source.ImageLaterality = "L"
    (context,) = contexts_of(tmp_path / "stated", source, (0, 9, 21))
    capture = by_kind(context)["sc"]
    assert list(capture.PatientOrientation) == ["P", "F"]
    assert capture.Laterality == "L"
    source.PatientOrientation = ["sideways", "F"]
    (context,) = contexts_of(tmp_path / "odd", source, (0, 9, 21))
    assert not by_kind(context)["sc"].PatientOrientation


def test_a_grey_ultrasound_picture_gets_what_a_radiograph_gets(tmp_path: Path) -> None:
    (context,) = contexts_of(tmp_path, ultrasound(), (0, 9, 21))
    assert set(by_kind(context)) == {"sc", "sr", "ko", "pr"}


def test_a_clip_without_a_place_gets_outlines_on_its_frames() -> None:
    clip = ultrasound(frames=4)
    del clip.PixelData
    volume = Volume(voxels=np.ones((4, 40, 32), np.float32), spacing_mm=(1, 1, 1), affine=np.eye(4))
    context = every_kind(
        replace(refused([clip]), reason=None, volume=volume, scores=scores_for(volume, (2, 9, 21)))
    )
    results = by_kind(context)
    assert set(results) == {"sc", "sr", "ko", "pr"}
    frames = [
        annotation.ReferencedImageSequence[0].ReferencedFrameNumber
        for annotation in results["pr"].GraphicAnnotationSequence
    ]
    assert frames == [3, 4]  # the lowest band reaches two slices; frames count from 1
    (series,) = results["pr"].ReferencedSeriesSequence
    (image,) = series.ReferencedImageSequence
    assert image.ReferencedSOPClassUID == UltrasoundMultiFrameImageStorage
    assert not results["sc"].PatientOrientation
    assert numbers(results["sr"], "118565006") == []


def test_each_stack_of_an_enhanced_object_is_segmented_on_its_own_frames(tmp_path: Path) -> None:
    source = two_stacks()
    first, second = contexts_of(tmp_path, source, (4, 7, 4))
    seen: set[int] = set()
    for context in (first, second):
        assert context.volume is not None
        assert context.scores is not None
        results = {result.kind: result.dataset for result in build_results(context)}
        segmentation = hd.seg.segread(io.BytesIO(encode(results["seg"])))
        (place,) = np.argwhere(segmentation.get_volume(combine_segments=False).array[..., 2])
        found = segmentation.get_volume(combine_segments=False).affine @ np.append(place, 1.0)
        expected = context.volume.affine @ np.array([4, 7, 4, 1.0])
        np.testing.assert_allclose(found[:3], expected[:3], atol=1e-4)
        for kind in ("seg", "pm"):
            for frame in results[kind].PerFrameFunctionalGroupsSequence:
                (image,) = frame.DerivationImageSequence[0].SourceImageSequence
                original = source.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
                assert (
                    original.PlanePositionSequence[0].ImagePositionPatient
                    == frame.PlanePositionSequence[0].ImagePositionPatient
                )
        seen |= {
            frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
            for frame in results["pm"].PerFrameFunctionalGroupsSequence
        }
    assert seen == set(range(1, 21))


def test_frames_that_share_a_place_are_not_guessed_at(tmp_path: Path) -> None:
    source = two_stacks()
    (context, _) = contexts_of(tmp_path, source, (4, 7, 4))
    assert {"seg", "pm"} <= set(by_kind(context))
    frames = context.sources[0].PerFrameFunctionalGroupsSequence
    for keyword in ("PlanePositionSequence", "PlaneOrientationSequence"):  # of the first stack and the second
        frames[0][keyword] = frames[19][keyword] = frames[5][keyword]
    assert not {"seg", "pm"} & set(by_kind(context))


def test_the_model_is_named_in_every_object(tmp_path: Path) -> None:
    (context,) = contexts_of(tmp_path, radiograph(), (0, 9, 21))
    for result in by_kind(context).values():
        models = [item.get("ManufacturerModelName") for item in result.ContributingEquipmentSequence]
        assert MODEL.name in models
        assert "not for diagnostic use" in result.SeriesDescription

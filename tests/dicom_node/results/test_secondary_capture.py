from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.picture import read_frame
from dicom_node.results import ResultContext, build_results, encode
from dicom_node.results.canvas import Layout
from dicom_node.results.heatmap import colours
from dicom_node.results.secondary_capture import build_secondary_capture, display_window
from models.volume import Volume
from tests.dicom_node.results.scenes import MODEL, PHANTOM, by_kind, context_of, enhanced, radiograph
from tests.phantoms import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Phantom

MARGIN, TOP = 8, 24  # left and upper border of the left panel


@pytest.fixture
def context(tmp_path: Path) -> ResultContext:
    return context_of(tmp_path, PHANTOM.datasets())


def panels(capture: Dataset, frame: int, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    pixels = capture.pixel_array[frame]
    rows = slice(TOP, TOP + layout.panel_height)
    left = pixels[rows, MARGIN : MARGIN + layout.panel_width]
    start = layout.right_panel
    return left, pixels[rows, start : start + layout.panel_width]


def layout_of(context: ResultContext) -> Layout:
    assert context.volume is not None
    return Layout.of(context.volume)


def test_frame_k_shows_slice_k_in_the_left_panel(context: ResultContext) -> None:
    capture = by_kind(context)["sc"]
    layout = layout_of(context)
    slice_, row, column = PHANTOM.bright
    zoom_row = layout.panel_height / PHANTOM.shape[1]
    zoom_column = layout.panel_width / PHANTOM.shape[2]
    middle = (round((row + 0.5) * zoom_row), round((column + 0.5) * zoom_column))
    assert capture.NumberOfFrames == len(context.sources)
    for frame in range(len(context.sources)):
        left, _ = panels(capture, frame, layout)
        assert bool((left[middle] == 255).all()) == (frame == slice_)
        assert (left[..., 0] == left[..., 2]).all()  # never coloured


def test_an_enhanced_object_gives_pictures_in_geometric_order_too(tmp_path: Path) -> None:
    plain = by_kind(context_of(tmp_path / "plain", PHANTOM.datasets()))["sc"]
    capture = by_kind(context_of(tmp_path / "enhanced", [enhanced()]))["sc"]
    assert np.array_equal(plain.pixel_array, capture.pixel_array)
    frames = [item.ReferencedFrameNumber for item in capture.SourceImageSequence]
    assert frames == [6, 5, 4, 3, 2, 1]  # the object's frames run the other way


def test_overlay_is_coloured_where_the_map_is_high_and_untouched_elsewhere(context: ResultContext) -> None:
    assert context.scores is not None
    capture = by_kind(context)["sc"]
    left, right = panels(capture, PHANTOM.bright[0], layout_of(context))
    differs = (left != right).any(axis=2)
    assert differs.any()
    assert differs.mean() < 0.1  # two voxels of 120, and the soft edge around them
    empty_left, empty_right = panels(capture, 0, layout_of(context))
    letters = np.s_[:15]  # the letter at the upper edge stands on both panels, one column apart at most
    assert np.array_equal(np.delete(empty_left, letters, 0), np.delete(empty_right, letters, 0))


def test_colour_bar_runs_from_the_colour_of_one_to_that_of_nothing(context: ResultContext) -> None:
    layout = layout_of(context)
    pixels = by_kind(context)["sc"].pixel_array[0]
    column = pixels[TOP : TOP + layout.panel_height, layout.bar + 2]
    assert column[0].tolist() == colours(np.array([1.0]))[0].tolist()
    marked = [TOP + round((1 - value) * (layout.panel_height - 1)) for value in (0.3, 0.5, 0.8)]
    for row in marked:
        assert pixels[row, layout.bar + 2].tolist() == [235, 235, 235]


def test_percentile_and_model_are_part_of_the_picture(context: ResultContext) -> None:
    assert context.scores is not None
    captures = [
        by_kind(changed)["sc"].pixel_array[0]
        for changed in (
            context,
            replace(context, scores=replace(context.scores, p_value=1 / 7)),
            replace(context, model=replace(MODEL, sha256="0f" * 32)),
        )
    ]
    foot = TOP + layout_of(context).panel_height
    for other in captures[1:]:
        assert np.array_equal(captures[0][:foot], other[:foot])
        assert not np.array_equal(captures[0][foot:], other[foot:])


def test_title_says_not_for_diagnostic_use_in_pixels_and_header(context: ResultContext) -> None:
    capture = by_kind(context)["sc"]
    title = capture.pixel_array[0][:TOP, : capture.Columns // 2]
    assert (title[..., 0] > 200).sum() > 300  # written text, not an empty strip
    assert capture.BurnedInAnnotation == "YES"
    assert capture.RecognizableVisualFeatures == "YES"
    assert "not for diagnostic use" in capture.SeriesDescription
    assert "not for diagnostic use" in capture.DerivationDescription


@pytest.mark.parametrize(
    ("directions", "sides"),
    [(AXIAL, ["L", "P"]), (CORONAL, ["L", "F"]), (SAGITTAL, ["P", "F"]), (OBLIQUE, ["L", "P"])],
)
def test_sides_of_the_patient_are_stated(
    tmp_path: Path, directions: tuple[tuple[float, ...], tuple[float, ...]], sides: list[str]
) -> None:
    capture = by_kind(context_of(tmp_path, Phantom(directions=directions).datasets()))["sc"]
    assert list(capture.PatientOrientation) == sides


def test_every_source_image_is_named_in_frame_order(context: ResultContext) -> None:
    capture = by_kind(context)["sc"]
    assert [item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence] == [
        source.SOPInstanceUID for source in context.sources
    ]
    assert list(capture.PageNumberVector) == [1, 2, 3, 4, 5, 6]


def test_frames_are_read_one_by_one_for_the_page(context: ResultContext, tmp_path: Path) -> None:
    (capture,) = (result.dataset for result in build_results(context) if result.kind == "sc")
    path = tmp_path / "capture.dcm"
    path.write_bytes(encode(capture))
    assert np.array_equal(read_frame(path, 4), by_kind(context)["sc"].pixel_array[4])


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "panel"),
    [
        ((5, 92, 76), (2.0, 2.0, 2.0), (276, 228)),  # three pixels for each of the source
        ((5, 64, 64), (2.0, 2.0, 4.0), (256, 512)),  # pixels twice as wide as high
        ((5, 512, 512), (1.0, 0.5, 0.5), (256, 256)),  # large matrices are reduced
        ((5, 20, 200), (1.0, 1.0, 1.0), (60, 600)),  # a long strip does not grow without end
    ],
)
def test_panels_are_readable_and_keep_the_proportions_of_the_patient(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], panel: tuple[int, int]
) -> None:
    volume = Volume(voxels=np.zeros(shape, np.float32), spacing_mm=spacing_mm, affine=np.eye(4))
    layout = Layout.of(volume)
    assert (layout.panel_height, layout.panel_width) == panel


def test_a_single_picture_is_a_single_frame_object_large_enough_to_read() -> None:
    context = radiograph()
    assert context.volume is not None
    capture = by_kind(context)["sc"]
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    for keyword in ("NumberOfFrames", "FrameIncrementPointer", "PageNumberVector"):
        assert keyword not in capture
    layout = Layout.of(context.volume)
    assert min(layout.panel_height, layout.panel_width) >= 3 * 256
    assert capture.pixel_array.shape == (layout.height, layout.width, 3)


def test_display_window_ignores_air_padding_and_a_hot_pixel() -> None:
    voxels = np.zeros((4, 50, 50), np.float32)
    voxels[:, 10:40, 10:40] = np.linspace(100, 200, 30)
    voxels[0, 20, 20] = 1e6
    voxels[1] = -2000
    padding = np.zeros(voxels.shape, bool)
    padding[1] = True
    volume = Volume(voxels=voxels, spacing_mm=(1, 1, 1), affine=np.eye(4), padding=padding)
    window = display_window(volume)
    assert 95 <= window.low <= 105
    assert 195 <= window.high <= 205


def test_a_volume_of_one_value_still_has_a_window() -> None:
    volume = Volume(voxels=np.full((3, 4, 4), 7, np.float32), spacing_mm=(1, 1, 1), affine=np.eye(4))
    window = display_window(volume)
    assert window.low < window.high


@pytest.mark.slow
def test_a_head_of_common_size_stays_small(context: ResultContext) -> None:
    """73 slices of 92 by 76, an ellipsoid of noise: no kinder than a brain."""
    assert context.scores is not None
    shape = (73, 92, 76)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    inside = (places**2).sum(axis=0) < 1
    noise = np.random.default_rng(0).normal(600, 100, shape)
    voxels = np.where(inside, noise, 0).astype(np.float32)
    volume = Volume(voxels=voxels, spacing_mm=(2.0, 2.0, 2.0), affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    scores = replace(context.scores, map=np.where(inside, 0.4, 0.0).astype(np.float32))
    large = replace(context, volume=volume, scores=scores, sources=[context.sources[0]] * 73)
    capture = build_secondary_capture(large)
    assert capture is not None
    uncompressed = capture.NumberOfFrames * capture.Rows * capture.Columns * 3
    assert len(encode(capture)) < 0.5 * uncompressed


def test_reduced_slices_are_averaged_not_thinned(context: ResultContext) -> None:
    assert context.scores is not None
    voxels = np.zeros((3, 1024, 1024), np.float32)
    voxels[:, ::2, ::2] = 100  # every other pixel: thinning would show all or nothing
    volume = Volume(voxels=voxels, spacing_mm=(1.0, 0.5, 0.5), affine=np.eye(4))
    scores = replace(context.scores, map=np.zeros(voxels.shape, np.float32))
    large = replace(context, volume=volume, scores=scores, sources=context.sources[:3])
    left, _ = panels(by_kind(large)["sc"], 0, Layout.of(volume))
    grey = np.asarray(Image.fromarray(left).convert("L"))[64:120, 20:100]
    assert (grey > 20).all()
    assert (grey < 235).all()

"""Colour pictures for viewers that show nothing else: slice beside overlay (PS3.3 A.8.5).

Frame ``k`` is slice ``k`` of the volume. What a picture cannot carry as data stands in its pixels: that it
is not for diagnosis, the percentile with its reference group, the model.
"""

import re
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_node.kinds import ResultKind
from dicom_node.results import codes, heatmap
from dicom_node.results.canvas import (
    Layout,
    paint_letters,
    paint_template,
    paint_title,
    side_letter,
    write_letters,
)
from dicom_node.results.context import ResultContext
from dicom_node.results.envelope import envelope, may_show_a_face, region, text_of
from dicom_node.results.sheet import Sheet
from dicom_node.results.sources import image_references, is_placed
from dicom_node.results.tile import complete_tile, tile_class
from models.scores import Scores
from models.volume import Volume

_WINDOW_PERCENTILES: Final = (1.0, 99.5)
_WINDOW_SAMPLE: Final = 1_000_000  # voxels; more change the window by less than a grey level
_PAGE_NUMBER_VECTOR: Final = Tag("PageNumberVector")
_SIDES: Final = re.compile(r"[LRAPHF]{1,3}")  # PS3.3 C.7.6.1.1.1
_OPPOSITE: Final = MappingProxyType({"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"})
_ITEM: Final = struct.Struct("<4sI")
_ITEM_TAG: Final = b"\xfe\xff\x00\xe0"
_LOSSY: Final = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Modality values shown as black and as white."""

    low: float
    high: float


def display_window(volume: Volume) -> Window:
    """Window that shows the tissue of a volume whatever its units.

    Robust percentiles of the voxels above the darkest value: air and padding do not widen it.
    """
    values = _sample(volume)
    if not values.size:
        return Window(low=0.0, high=1.0)
    darkest = float(values.min())
    tissue = values[values > darkest]
    if not tissue.size:
        return Window(low=darkest, high=darkest + 1.0)
    low, high = (float(value) for value in np.percentile(tissue, _WINDOW_PERCENTILES))
    return Window(low=low, high=high) if low < high else Window(low=darkest, high=high)


def _sample(volume: Volume) -> NDArray[np.float32]:
    """Voxels at even distances among those measured, slice by slice."""
    total = volume.voxels.size - (0 if volume.padding is None else int(np.count_nonzero(volume.padding)))
    step = max(1, total // _WINDOW_SAMPLE)
    parts, seen = [], 0
    for index, plane in enumerate(volume.voxels):
        found = plane.ravel() if volume.padding is None else plane[~volume.padding[index]]
        parts.append(np.array(found[-seen % step :: step]))
        seen += found.size
    return np.concatenate(parts)


def build_secondary_capture(context: ResultContext) -> Dataset | None:
    """Colour picture of every slice; without scores one of words, or None where there is none to supersede.

    One frame a slice, or where there is but one slice a single-frame object, which every viewer knows.
    """
    if context.scores is None or context.volume is None:
        return _words_alone(context)
    is_single = len(context.volume.voxels) == 1
    result = envelope(
        context,
        ResultKind.SECONDARY_CAPTURE,
        SecondaryCaptureImageStorage if is_single else MultiFrameTrueColorSecondaryCaptureImageStorage,
        "OT",
    )
    source = context.sources[0]
    result.update(region(source))
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.ConversionType = "WSD"
    result.DateOfSecondaryCapture = result.ContentDate
    result.TimeOfSecondaryCapture = result.ContentTime
    result.BurnedInAnnotation = "YES"
    result.RecognizableVisualFeatures = "YES" if may_show_a_face(source) else "NO"
    result.DerivationDescription = (
        "Left: source slice, windowed and resampled for display. Right: the same with the anomaly map of "
        f"{context.model.name} {context.model.version} laid over it. {codes.DISCLAIMER}"
    )
    result.PatientOrientation = _orientation(context, context.volume)
    result.SourceImageSequence = _source_images(context)
    result.LossyImageCompression = "01" if text_of(source, "LossyImageCompression") == "01" else "00"
    if result.LossyImageCompression == "01":
        for keyword in _LOSSY:
            if keyword in source:
                result[keyword] = source[keyword]
    _add_pixels(result, context, context.volume, context.scores)
    return result


def _words_alone(context: ResultContext) -> Dataset | None:
    """Picture that says why there is no score any more; no number, no slice."""
    if context.reason is None or context.shown_as is None:
        return None
    code = codes.REASONS[context.reason]
    result = envelope(context, ResultKind.SECONDARY_CAPTURE, tile_class(context.shown_as), "OT")
    words = [f"{code.value}: {code.meaning}.", codes.NOT_ASSESSED, codes.ALL_SUPERSEDED, codes.NO_DIAGNOSIS]
    return complete_tile(result, context.sources[0], codes.NOT_ASSESSABLE_HEADING, words)


def _orientation(context: ResultContext, volume: Volume) -> list[str]:
    """Sides that rows and columns of both panels run to; empty where unknown (type 2C)."""
    if is_placed(context):
        return [side_letter(volume.affine[:3, 2]), side_letter(volume.affine[:3, 1])]
    sides = text_of(context.sources[0], "PatientOrientation").split("/")
    return sides if len(sides) == 2 and all(map(_SIDES.fullmatch, sides)) else []  # noqa: PLR2004 - two axes


def _source_images(context: ResultContext) -> list[Dataset]:
    items = []
    for reference in image_references(context):
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class
        item.ReferencedSOPInstanceUID = reference.sop_instance
        if reference.frame is not None:
            item.ReferencedFrameNumber = reference.frame
        item.PurposeOfReferenceCodeSequence = [codes.coded(codes.SOURCE_IMAGE)]
        items.append(item)
    return items


def _add_pixels(result: Dataset, context: ResultContext, volume: Volume, scores: Scores) -> None:
    layout = Layout.of(volume)
    slices = len(volume.voxels)
    if slices > 1:
        result.NumberOfFrames = slices
        result.FrameIncrementPointer = _PAGE_NUMBER_VECTOR
        result.PageNumberVector = list(range(1, slices + 1))
    result.SamplesPerPixel = 3
    result.PhotometricInterpretation = "RGB"
    result.PlanarConfiguration = 0
    result.Rows = layout.height
    result.Columns = layout.width
    result.BitsAllocated = 8
    result.BitsStored = 8
    result.HighBit = 7
    result.PixelRepresentation = 0
    frames = _frames(context, volume, scores, layout)
    if volume.scratch.folder is None:
        result.PixelData = encapsulate(list(frames))
    else:
        result.PixelData = _encapsulated_on_disk(frames, slices, volume.scratch.folder)
    result["PixelData"].VR = "OB"
    result["PixelData"].is_undefined_length = True
    result.file_meta.TransferSyntaxUID = RLELossless


def _encapsulated_on_disk(frames: Iterable[bytes], count: int, folder: Path) -> BufferedRandom:
    """What `encapsulate` makes of frames, in a file that ends with the object (PS3.5 A.4)."""
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the data set reads it when it is written
    table = np.zeros(count, dtype="<u4")
    file.write(_ITEM.pack(_ITEM_TAG, table.nbytes) + table.tobytes())
    place = 0
    for index, frame in enumerate(frames):
        table[index] = place
        place += file.write(_ITEM.pack(_ITEM_TAG, len(frame)) + frame)
    file.seek(_ITEM.size)
    file.write(table.tobytes())
    file.seek(0)
    return file


def _frames(context: ResultContext, volume: Volume, scores: Scores, layout: Layout) -> Iterator[bytes]:
    """Compressed pictures one by one: a study's frames are never in memory uncompressed."""
    window = display_window(volume)
    template = paint_template(layout, scores, _captions(context, scores))
    sheet = Sheet.of(template, layout)
    overlay = heatmap.Overlay.of(scores.bands)
    cover = paint_letters(layout, _letters(context, volume))
    slices = len(volume.voxels)
    for index in range(slices):
        grey = _resample_slice(heatmap.window(volume.voxels[index], window.low, window.high), layout)
        level = heatmap.levels(_resample_map(scores.map[index], layout))
        is_coloured = np.asarray((level >= overlay.onset).any(axis=1))
        coloured = np.zeros((*grey.shape, 3), np.uint8)
        coloured[is_coloured] = overlay.lay(grey[is_coloured], level[is_coloured])
        write_letters(coloured, cover)
        write_letters(grey, cover)
        counter = "" if slices == 1 else f"slice {index + 1} / {slices}"
        yield sheet.compress(paint_title(template, layout, counter), grey, coloured, is_coloured)


def _letters(context: ResultContext, volume: Volume) -> tuple[str, str]:
    """Sides at the left and at the top: a picture without geometry must say which side is which."""
    sides = _orientation(context, volume)
    return (_OPPOSITE[sides[0][0]], _OPPOSITE[sides[1][0]]) if sides else ("", "")


def _captions(context: ResultContext, scores: Scores) -> tuple[str, ...]:
    model = context.model
    calibration = f"calibration {model.calibration_sha256[:8]} of {model.calibrated_on.isoformat()}"
    run_at = context.run_at.strftime("%Y-%m-%d %H:%M%z")
    return (
        f"Normality percentile {scores.percentile:.1f} (low is unusual), reference n = {model.n}",
        f"Reference: {model.group}",
        f"{model.name} {model.version} {model.sha256[:8]}, {calibration}, run {run_at}",
        model.disclaimer,
    )


def _resample_slice(grey: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """Slice in the size of a panel; enlarged pixels stay as they are, which also halves the object."""
    is_reduced = layout.panel_width < grey.shape[1]
    how = Image.Resampling.BOX if is_reduced else Image.Resampling.NEAREST
    return np.array(Image.fromarray(grey).resize((layout.panel_width, layout.panel_height), how))


def _resample_map(values: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    size = (layout.panel_width, layout.panel_height)
    return np.asarray(Image.fromarray(np.clip(values, 0.0, 1.0)).resize(size, Image.Resampling.BILINEAR))

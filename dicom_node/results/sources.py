"""Which source image a slice came from, and copies of source headers that highdicom accepts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.header import IMAGE_CLASSES, PARSE_ERRORS
from dicom_node.results.context import ResultContext
from dicom_node.results.envelope import anonymous_study, is_referable, region, text_of
from models.volume import Volume

_SAME_PLACE_MM = 1e-2
_SAME_DIRECTION = 1e-3
_KEY_IMAGES = 5
_PER_FRAME = "PerFrameFunctionalGroupsSequence"
_SAME_IN_A_STACK = ("PlaneOrientationSequence", "PixelMeasuresSequence")

# What a segmentation reads of an enhanced source besides patient and study.
_MULTIFRAME = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID",
    "Rows", "Columns", "DimensionOrganizationSequence", "DimensionIndexSequence", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
_SINGLE_FRAME = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID",
    "Rows", "Columns", "ImagePositionPatient",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """An image a slice came from; ``frame`` counts from 1 and is None in single-frame objects."""

    sop_class: str
    sop_instance: str
    frame: int | None


def image_references(context: ResultContext) -> tuple[ImageReference, ...]:
    """Image of each slice, in the order of the volume; empty where that cannot be told."""
    if context.volume is None or not all(is_referable(source) for source in context.sources):
        return ()
    first = context.sources[0]
    if not context.is_multiframe:
        return tuple(
            ImageReference(
                sop_class=str(source.SOPClassUID), sop_instance=str(source.SOPInstanceUID), frame=None
            )
            for source in context.sources
        )
    return tuple(
        ImageReference(sop_class=str(first.SOPClassUID), sop_instance=str(first.SOPInstanceUID), frame=frame)
        for frame in frame_numbers(first, context.volume)
    )


def key_images(context: ResultContext) -> tuple[ImageReference, ...]:
    """Images of the slices with the highest peaks, highest first; empty where no image can be named."""
    images = image_references(context)
    if context.scores is None or not images or not is_image(context.sources[0]):
        return ()
    peaks = [region.slice_index for region in context.scores.regions[:_KEY_IMAGES]]
    if not peaks:
        peaks = [int(np.unravel_index(context.scores.map.argmax(), context.scores.map.shape)[0])]
    return tuple(images[index] for index in dict.fromkeys(peaks))


def frame_numbers(source: Dataset, volume: Volume) -> tuple[int, ...]:
    """Frame of a multi-frame object that holds each slice, from 1; empty where that cannot be told for all.

    The object may hold other stacks besides: a frame counts where its direction is that of the volume. Where
    its frames have no place in space at all, as in ultrasound, they are the slices in their order.
    """
    slices = len(volume.voxels)
    if "PerFrameFunctionalGroupsSequence" not in source:
        return tuple(range(1, slices + 1)) if source.get("NumberOfFrames") == slices else ()
    try:
        shared = (source.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        places = np.array(
            [_numbers(own, shared, "PlanePosition") for own in source.PerFrameFunctionalGroupsSequence]
        )
        directions = np.array(
            [_numbers(own, shared, "PlaneOrientation") for own in source.PerFrameFunctionalGroupsSequence]
        )
    except PARSE_ERRORS:
        return ()
    columns, rows = (volume.affine[:3, axis] / np.linalg.norm(volume.affine[:3, axis]) for axis in (2, 1))
    turned = np.abs(directions - np.concatenate([columns, rows])).max(axis=1) > _SAME_DIRECTION
    origins = volume.affine[:3, 3] + np.arange(slices)[:, np.newaxis] * volume.affine[:3, 0]
    near = max(_SAME_PLACE_MM, float(np.linalg.norm(volume.affine[:3, 0])) / 4)
    is_here = np.linalg.norm(origins[:, np.newaxis] - places, axis=2) <= near  # (slices, frames)
    is_here[:, turned] = False
    if (is_here.sum(axis=1) != 1).any():
        return ()
    return tuple(int(number) + 1 for number in is_here.argmax(axis=1))


def _numbers(own: Dataset, shared: Dataset, stem: str) -> list[float]:
    """Position or orientation of a frame: its own, else the shared one."""
    (item,) = own.get(f"{stem}Sequence") or shared.get(f"{stem}Sequence")
    keyword = "ImagePositionPatient" if stem == "PlanePosition" else "ImageOrientationPatient"
    return [float(x) for x in item.get(keyword)]


def is_placed(context: ResultContext) -> bool:
    """Whether the slices have directions in the patient; pictures have none, whatever grid they lie on."""
    if context.volume is None or len(context.volume.voxels) == 1:
        return False
    first = context.sources[0]
    return _PER_FRAME in first if context.is_multiframe else "ImageOrientationPatient" in first


def has_scale(context: ResultContext) -> bool:
    """Whether the size of a pixel is stated by the source."""
    stated = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    return is_placed(context) or any(text_of(context.sources[0], keyword) for keyword in stated)


def segmentable_sources(context: ResultContext) -> list[Dataset]:
    """Copies of the sources with what a segmentation needs; empty where a segmentation cannot be made.

    The grid of all copies is that of the first image: differences that the geometry gate took for rounding
    are no reason to refuse.
    """
    volume = context.volume
    first = context.sources[0]
    if volume is None or not is_placed(context) or not text_of(first, "FrameOfReferenceUID"):
        return []
    if not image_references(context):
        return []
    common = anonymous_study(first)  # highdicom warns of odd names in full (I9); the envelope has them all
    common.update(region(first))
    if context.is_multiframe:
        return [_one_stack(first, common, frame_numbers(first, volume))]
    if any("ImagePositionPatient" not in source for source in context.sources):
        return []
    copies = []
    for source in context.sources:
        copy = _copy(source, common, _SINGLE_FRAME)
        copy.FrameOfReferenceUID = first.FrameOfReferenceUID
        copy.ImageOrientationPatient = first.ImageOrientationPatient
        copy.PixelSpacing = first.PixelSpacing
        copy.SliceThickness = text_of(first, "SliceThickness") or f"{volume.spacing_mm[0]:.6g}"
        copies.append(copy)
    return copies


def _one_stack(source: Dataset, common: Dataset, numbers: tuple[int, ...]) -> Dataset:
    """Copy of an enhanced object with the frames of one stack alone, in their order."""
    copy = _copy(source, common, _MULTIFRAME)
    shared = Dataset()
    shared.update((source.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
    frames = []
    for number in sorted(numbers):
        frame = Dataset()
        frame.update(source.PerFrameFunctionalGroupsSequence[number - 1])
        for name in _SAME_IN_A_STACK:
            if name in frame:
                shared[name] = frame[name]
                del frame[name]
        frames.append(frame)
    copy.NumberOfFrames = len(frames)
    copy.SharedFunctionalGroupsSequence = [shared]
    copy.PerFrameFunctionalGroupsSequence = frames
    return copy


def name_source_frames(context: ResultContext, made: Dataset) -> None:
    """Count the frames an object refers to as its source does, which may hold more than the one stack."""
    if context.volume is None or not context.is_multiframe:
        return
    numbers = sorted(frame_numbers(context.sources[0], context.volume))
    images = {  # highdicom lets frames share an item: each is renamed once
        id(image): image
        for frame in made.PerFrameFunctionalGroupsSequence
        for derivation in frame.get("DerivationImageSequence", [])
        for image in derivation.SourceImageSequence
    }
    for image in images.values():
        image.ReferencedFrameNumber = numbers[image.ReferencedFrameNumber - 1]


def on_source_planes(context: ResultContext, values: NDArray[Any]) -> NDArray[Any]:
    """Values on the grid of the volume, in the order in which highdicom wants them: that of the sources.

    Parameters
    ----------
    context : ResultContext
        One with `segmentable_sources`.
    values : array
        Slices first.
    """
    if context.volume is None or not context.is_multiframe:
        return values
    return values[np.argsort(frame_numbers(context.sources[0], context.volume))]


def _copy(source: Dataset, common: Dataset, keywords: tuple[str, ...]) -> Dataset:
    copy = Dataset()
    copy.update(common)
    for keyword in keywords:
        if keyword in source:
            copy[keyword] = source[keyword]
    return copy


def is_image(source: Dataset) -> bool:
    """Whether an object may be referred to as an image."""
    return is_referable(source) and source.SOPClassUID in IMAGE_CLASSES

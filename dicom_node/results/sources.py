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
_KEY_IMAGES = 5

# What a segmentation reads of an enhanced source besides patient and study.
_MULTIFRAME = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID",
    "Rows", "Columns", "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence", "DimensionIndexSequence", "LossyImageCompression",
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
    """Frame of an enhanced object that holds each slice, from 1; empty where they do not match one to one."""
    try:
        places = np.array(
            [
                [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
                for frame in source.PerFrameFunctionalGroupsSequence
            ]
        )
    except PARSE_ERRORS:
        return ()
    slices = len(volume.voxels)
    if places.shape != (slices, 3):
        return ()
    origins = volume.affine[:3, 3] + np.arange(slices)[:, np.newaxis] * volume.affine[:3, 0]
    step = float(np.linalg.norm(volume.affine[:3, 0]))
    nearest = np.linalg.norm(origins[:, np.newaxis] - places, axis=2)  # (slices, frames)
    numbers = nearest.argmin(axis=1)
    is_close = nearest.min(axis=1) <= max(_SAME_PLACE_MM, step / 2)
    if not is_close.all() or len(set(numbers.tolist())) != slices:
        return ()
    return tuple(int(number) + 1 for number in numbers)


def segmentable_sources(context: ResultContext) -> list[Dataset]:
    """Copies of the sources with what a segmentation needs; empty where a segmentation cannot be made.

    The grid of all copies is that of the first image: differences that the geometry gate took for rounding
    are no reason to refuse.
    """
    volume = context.volume
    first = context.sources[0]
    if volume is None or not text_of(first, "FrameOfReferenceUID") or not image_references(context):
        return []
    common = anonymous_study(first)  # highdicom warns of odd names in full (I9); the envelope has them all
    common.update(region(first))
    if context.is_multiframe:
        return [_copy(first, common, _MULTIFRAME)]
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

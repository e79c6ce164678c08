"""BINARY segmentation of the three nested anomaly bands, on the grid of the source (PS3.3 A.51).

Also what all kinds of segmentation share.
"""

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

from dicom_node.identity import MANUFACTURER, MODEL_NAME
from dicom_node.kinds import ResultKind
from dicom_node.results import codes
from dicom_node.results.context import ResultContext
from dicom_node.results.envelope import envelope, instance_uid, settle
from dicom_node.results.sources import name_source_frames, on_source_planes, segmentable_sources
from models.scores import Scores

MOST_AT_ONCE = 1 << 26  # voxels; about 20 bytes of memory each, whatever the worker may use
SHORT_HASH = 12  # hexadecimal digits; the whole hash stands in the report


def band_masks(scores: Scores, planes: NDArray[np.intp] | None = None) -> NDArray[np.bool_]:
    """Voxels in each band, ``map >= bands[i]``: a higher band lies inside the lower ones.

    Parameters
    ----------
    scores : Scores
    planes : int, optional
        Slices to look at; all unless given.

    Returns
    -------
    bool, shape (bands, slices, rows, columns)
    """
    values = scores.map if planes is None else scores.map[planes]
    return np.stack([values >= band for band in scores.bands])


def build_segmentation(context: ResultContext) -> Dataset | None:
    """SEG object with one binary segment per anomaly band.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset or None
        None where no voxel reaches the lowest band, where there are no scores, or where the sources have no
        frame of reference. Segment ``i + 1`` is band ``i``; a band without voxels has no frames.
    """
    if context.scores is None or not has_segmentation(context):
        return None
    planes = _planes(context)
    return make_segmentation(
        context,
        ResultKind.SEGMENTATION,
        np.moveaxis(band_masks(context.scores, planes), 0, -1).astype(np.uint8),
        [
            describe(
                context,
                index + 1,
                label=codes.BAND_LABELS[index],
                tracking=(segment_tracking_id(index), segment_tracking_uid(context, index)),
                threshold=threshold,
            )
            for index, threshold in enumerate(context.scores.bands)
        ],
        segmentation_type=SegmentationTypeValues.BINARY,
        content="Three nested bands of an anomaly map",
        planes=planes,
    )


def make_segmentation(
    context: ResultContext,
    kind: ResultKind,
    pixels: NDArray[np.generic],
    segments: list[SegmentDescription],
    *,
    segmentation_type: SegmentationTypeValues,
    content: str,
    sop_class: UID = SegmentationStorage,
    syntax: UID = ExplicitVRLittleEndian,
    planes: NDArray[np.intp] | None = None,
) -> Dataset:
    """SEG object of any type; frames without a voxel are left out.

    Parameters
    ----------
    context : ResultContext
        One with `has_region`.
    kind : ResultKind
    pixels : array, shape (slices, rows, columns), or (slices, rows, columns, segments)
        On the grid of the volume; what highdicom takes for the type.
    segments : list of SegmentDescription
    segmentation_type : SegmentationTypeValues
    content : str
        Content Description.
    sop_class, syntax : UID
    planes : int, optional
        Slices of single-frame sources to which the pixels belong; all unless given.
    """
    outer = envelope(context, kind, sop_class, "SEG")
    sources = segmentable_sources(context)
    made = Segmentation(
        source_images=sources if planes is None else [sources[index] for index in planes],
        pixel_array=on_source_planes(context, pixels),
        segmentation_type=segmentation_type,
        segment_descriptions=segments,
        series_instance_uid=outer.SeriesInstanceUID,
        series_number=outer.SeriesNumber,
        sop_instance_uid=outer.SOPInstanceUID,
        instance_number=outer.InstanceNumber,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_version,
        device_serial_number=outer.DeviceSerialNumber,
        content_label=codes.CONTENT_LABEL,
        content_description=content,
        transfer_syntax_uid=syntax,
        specific_character_set=codes.CHARACTER_SET,
    )
    name_source_frames(context, made)
    return settle(made, outer, context.uid(f"{kind.value}-dimensions"))


def has_region(context: ResultContext) -> bool:
    """Whether a voxel reaches the lowest band on sources that a segmentation can be laid over."""
    return (
        context.scores is not None
        and any((plane >= context.scores.bands[0]).any() for plane in context.scores.map)
        and bool(segmentable_sources(context))
    )


def _planes(context: ResultContext) -> NDArray[np.intp] | None:
    """Slices that a segmentation is made of; None: all of them, as in every series of usual size."""
    if context.scores is None or context.volume is None or context.is_multiframe:
        return None
    if context.volume.voxels.size <= MOST_AT_ONCE:
        return None
    return np.flatnonzero([(plane >= context.scores.bands[0]).any() for plane in context.scores.map])


def has_segmentation(context: ResultContext) -> bool:
    """Whether the context gives a segmentation of nested bands, to which the report refers.

    A series of thousands of slices has none where the slices that it would be made of hold more than
    `MOST_AT_ONCE` voxels: the library that makes it needs them all at once.
    """
    if ResultKind.SEGMENTATION not in context.kinds or not has_region(context):
        return False
    planes = _planes(context)
    if planes is None or context.volume is None:
        return True
    return len(planes) * int(np.prod(context.volume.voxels.shape[1:])) <= MOST_AT_ONCE


def segmentation_uid(context: ResultContext) -> str:
    """SOP Instance UID of the segmentation; the report refers to it."""
    return instance_uid(context, ResultKind.SEGMENTATION)


def segment_tracking_uid(context: ResultContext, index: int) -> str:
    """Tracking UID of a band; the report names the same."""
    return context.uid(f"seg-tracking-{index}")


def segment_tracking_id(index: int) -> str:
    """Tracking identifier of a band."""
    return f"anomaly-band-{index + 1}"


def describe(
    context: ResultContext, number: int, *, label: str, tracking: tuple[str, str], threshold: float
) -> SegmentDescription:
    """One segment: an anomalous region, found by the model.

    Parameters
    ----------
    context : ResultContext
    number : int
        From 1.
    label : str
    tracking : tuple of str
        Identifier and UID.
    threshold : float
        Least map value inside.
    """
    identifier, uid = tracking
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=codes.ANOMALOUS_REGION,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=context.model.name,
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=context.model.version,
            source=MANUFACTURER,
            # highdicom joins these with commas and equal signs: values must hold neither.
            parameters={
                "threshold": f"{threshold:.6g}",
                "model_sha256": context.model.sha256[:SHORT_HASH],
                "calibration_sha256": context.model.calibration_sha256[:SHORT_HASH],
            },
        ),
        tracking_uid=uid,
        tracking_id=identifier,
        display_color=CIELabColor(*codes.BAND_COLOURS[number - 1]),
    )

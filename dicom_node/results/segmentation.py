"""BINARY segmentation of the three nested anomaly bands, on the grid of the source (PS3.3 A.51)."""

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
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from dicom_node.identity import MANUFACTURER, MODEL_NAME
from dicom_node.results import codes
from dicom_node.results.codes import ResultKind
from dicom_node.results.context import ResultContext
from dicom_node.results.envelope import envelope, instance_uid
from dicom_node.results.sources import frame_numbers, segmentable_sources
from models.scores import Scores

SHORT_HASH = 12  # hexadecimal digits; the whole hash stands in the report


def band_masks(scores: Scores) -> NDArray[np.bool_]:
    """Voxels in each band, ``map >= bands[i]``: a higher band lies inside the lower ones.

    Returns
    -------
    bool, shape (bands, slices, rows, columns)
    """
    return np.stack([scores.map >= band for band in scores.bands])


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
    if context.scores is None or context.volume is None or not has_segmentation(context):
        return None
    masks = band_masks(context.scores)
    if context.is_multiframe:  # highdicom wants the planes in the order of the source's frames
        masks = masks[:, np.argsort(frame_numbers(context.sources[0], context.volume))]
    outer = envelope(context, ResultKind.SEGMENTATION, SegmentationStorage, "SEG")
    result = Segmentation(
        source_images=segmentable_sources(context),
        pixel_array=np.moveaxis(masks, 0, -1).astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(context, *band) for band in enumerate(context.scores.bands)],
        series_instance_uid=outer.SeriesInstanceUID,
        series_number=outer.SeriesNumber,
        sop_instance_uid=outer.SOPInstanceUID,
        instance_number=outer.InstanceNumber,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_version,
        device_serial_number=outer.DeviceSerialNumber,
        content_label=codes.CONTENT_LABEL,
        content_description="Three nested bands of an anomaly map",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=codes.CHARACTER_SET,
    )
    return _settle(result, outer, context)


def has_segmentation(context: ResultContext) -> bool:
    """Whether the context gives a segmentation at all."""
    return (
        context.scores is not None
        and bool((context.scores.map >= context.scores.bands[0]).any())
        and bool(segmentable_sources(context))
    )


def segmentation_uid(context: ResultContext) -> str:
    """SOP Instance UID of the segmentation; the report refers to it."""
    return instance_uid(context, ResultKind.SEGMENTATION)


def segment_tracking_uid(context: ResultContext, index: int) -> str:
    """Tracking UID of a band; the report names the same."""
    return context.uid(f"seg-tracking-{index}")


def segment_tracking_id(index: int) -> str:
    """Tracking identifier of a band."""
    return f"anomaly-band-{index + 1}"


def _describe(context: ResultContext, index: int, threshold: float) -> SegmentDescription:
    return SegmentDescription(
        segment_number=index + 1,
        segment_label=codes.BAND_LABELS[index],
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
        tracking_uid=segment_tracking_uid(context, index),
        tracking_id=segment_tracking_id(index),
        display_color=CIELabColor(*codes.BAND_COLOURS[index]),
    )


def _settle(result: Segmentation, outer: Dataset, context: ResultContext) -> Dataset:
    """Plain data set with what highdicom took from the clock or at random replaced (I4)."""
    organization = context.uid("seg-dimensions")
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    settled = Dataset()
    settled.update(result)
    settled.update(outer)
    settled.ContentCreatorName = ""  # type 2 in the Content Identification macro: no person made this
    settled.file_meta = FileMetaDataset(outer.file_meta)
    return settled

"""Parametric map: the anomaly map itself, for viewers that can lay it over its source (PS3.3 A.75).

Float Pixel Data, four times the bytes of compressed integers: the viewers that show parametric maps at all
(OHIF, 3D Slicer) read nothing else.
"""

import numpy as np
from highdicom import VOILUTFunctionValues, VOILUTTransformation
from highdicom.pm import (
    DerivedPixelContrastValues,
    ImageFlavorValues,
    ParametricMap,
    RealWorldValueMapping,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ParametricMapStorage

from dicom_node.identity import MANUFACTURER, MODEL_NAME
from dicom_node.kinds import ResultKind
from dicom_node.results import codes
from dicom_node.results.context import ResultContext
from dicom_node.results.envelope import envelope, may_show_a_face, region, settle
from dicom_node.results.sources import name_source_frames, on_source_planes, segmentable_sources


def build_parametric_map(context: ResultContext) -> Dataset | None:
    """Map of every slice, 0 to 1, as it is.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset or None
        None where there are no scores, or where the sources have no frame of reference: the standard has no
        parametric map without one.
    """
    if context.scores is None:
        return None
    sources = segmentable_sources(context)
    if not sources:
        return None
    values = np.clip(context.scores.map, 0.0, 1.0).astype(np.float32)
    outer = envelope(context, ResultKind.PARAMETRIC_MAP, ParametricMapStorage, "OT")
    outer.update(region(context.sources[0]))
    made = ParametricMap(
        source_images=sources,
        pixel_array=on_source_planes(context, values),
        series_instance_uid=outer.SeriesInstanceUID,
        series_number=outer.SeriesNumber,
        sop_instance_uid=outer.SOPInstanceUID,
        instance_number=outer.InstanceNumber,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_version,
        device_serial_number=outer.DeviceSerialNumber,
        contains_recognizable_visual_features=may_show_a_face(context.sources[0]),
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label=codes.CONTENT_LABEL,
                lut_explanation="Anomaly map, 0 to 1, high is unusual",
                unit=codes.NO_UNITS,
                value_range=(0.0, 1.0),
                slope=1.0,
                intercept=0.0,
                quantity_definition=codes.ANOMALY_MAP_VALUE,
            )
        ],
        voi_lut_transformations=[
            VOILUTTransformation(
                window_center=0.5, window_width=1.0, voi_lut_function=VOILUTFunctionValues.LINEAR_EXACT
            )
        ],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_description="Anomaly map, not for diagnostic use",
        content_label=codes.CONTENT_LABEL,
        content_qualification=codes.CONTENT_QUALIFICATION,
        image_flavor=ImageFlavorValues.VOLUME,
        derived_pixel_contrast=DerivedPixelContrastValues.QUANTITY,
        derivation=codes.ANOMALY_DETECTION,
        specific_character_set=codes.CHARACTER_SET,
    )
    name_source_frames(context, made)
    settled = settle(made, outer, context.uid("pm-dimensions"))
    settled.BurnedInAnnotation = "NO"
    return settled

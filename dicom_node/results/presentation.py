"""Grayscale softcopy presentation state: outlines and words over images without a place (PS3.3 A.33).

A radiograph has no frame of reference, so viewers show no segmentation over it. A presentation state is what
the standard has for it. It keeps the window and the polarity of the image: nothing but the outlines is new.
"""

from typing import Final

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextJustificationValues,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_node.header import PARSE_ERRORS
from dicom_node.identity import MANUFACTURER, MODEL_NAME
from dicom_node.kinds import ResultKind
from dicom_node.pixels import is_inverted
from dicom_node.results import codes
from dicom_node.results.context import ResultContext
from dicom_node.results.envelope import anonymous_study, envelope, region, settle, text_of
from dicom_node.results.outlines import outlines
from dicom_node.results.sources import ImageReference, image_references, is_image, segmentable_sources

_MOST_OUTLINES: Final = 64  # of one image; the longest ones
_LAYER: Final = "ANOMALY"
_TEXT_BOX: Final = (0.01, 0.86, 0.99, 0.99)  # left, top, right, bottom of the displayed area


def build_presentation(context: ResultContext) -> Dataset | None:
    """Presentation state of the images with a voxel in a band.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset or None
        None where a segmentation can be made instead, where no pixel reaches the lowest band, and where no
        source can be referred to as an image.
    """
    if context.scores is None or segmentable_sources(context) or not is_image(context.sources[0]):
        return None
    images = image_references(context)
    inside = context.scores.map >= context.scores.bands[0]
    marked = [index for index in range(len(images)) if inside[index].any()]
    if not marked:
        return None
    outer = envelope(context, ResultKind.PRESENTATION, GrayscaleSoftcopyPresentationStateStorage, "PR")
    for keyword in ("ContentQualification", "ContentDate", "ContentTime"):  # no attributes of this class
        del outer[keyword]
    outer.update(region(context.sources[0]))
    stubs = _stubs(context, [images[index] for index in marked])
    layer = GraphicLayer(
        _LAYER, order=1, description="Anomaly outlines", display_color=CIELabColor(*codes.BAND_COLOURS[1])
    )
    made = GrayscaleSoftcopyPresentationState(
        referenced_images=list({stub.SOPInstanceUID: stub for stub in stubs}.values()),
        series_instance_uid=outer.SeriesInstanceUID,
        series_number=outer.SeriesNumber,
        sop_instance_uid=outer.SOPInstanceUID,
        instance_number=outer.InstanceNumber,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_version,
        device_serial_number=outer.DeviceSerialNumber,
        content_label=codes.CONTENT_LABEL,
        content_description="Outlines of the lowest anomaly band",
        graphic_layers=[layer],
        graphic_annotations=[
            _annotation(context, layer, stub, images[index], index)
            for index, stub in zip(marked, stubs, strict=True)
        ],
        specific_character_set=codes.CHARACTER_SET,
    )
    settled = settle(made, outer, "")
    settled.PresentationCreationDate = outer.SeriesDate
    settled.PresentationCreationTime = outer.SeriesTime
    _keep_appearance(context.sources[0], settled)
    return settled


def _stubs(context: ResultContext, images: list[ImageReference]) -> list[Dataset]:
    """What highdicom reads of each referenced image; appearance is added from the source itself."""
    common = anonymous_study(context.sources[0])
    rows, columns = context.scores.map.shape[1:] if context.scores is not None else (0, 0)
    stubs = []
    for image in images:
        stub = Dataset()
        stub.update(common)
        stub.SOPClassUID = image.sop_class
        stub.SOPInstanceUID = image.sop_instance
        stub.SeriesInstanceUID = str(context.sources[0].SeriesInstanceUID)
        stub.Rows, stub.Columns, stub.SamplesPerPixel = rows, columns, 1
        if image.frame is not None:  # asked for in any multi-frame class, also one that has none
            stub.SharedFunctionalGroupsSequence = [Dataset()]
            stub.PerFrameFunctionalGroupsSequence = []
        stubs.append(stub)
    return stubs


def _annotation(
    context: ResultContext, layer: GraphicLayer, stub: Dataset, image: ImageReference, index: int
) -> GraphicAnnotation:
    scores = context.scores
    if scores is None:
        raise ValueError("an annotation needs scores")
    made = GraphicAnnotation(
        referenced_images=[stub],
        graphic_layer=layer,
        graphic_objects=[
            GraphicObject(
                GraphicTypeValues.POLYLINE,
                # Columns first; the upper left corner of the first pixel is 0, 0 (PS3.3 C.10.5.1.2).
                loop[:, ::-1].astype(np.float64),
                AnnotationUnitsValues.PIXEL,
            )
            for loop in outlines(scores.map[index] >= scores.bands[0])[:_MOST_OUTLINES]
        ],
        text_objects=[
            TextObject(
                f"{codes.BURNED_IN}\r\n"
                f"Normality percentile {scores.percentile:.1f} (low is unusual), "
                f"reference n = {scores.model.n}\r\n"
                f"{context.model.name} {context.model.version} {context.model.sha256[:8]}",
                AnnotationUnitsValues.DISPLAY,
                bounding_box=_TEXT_BOX,
                text_justification=TextJustificationValues.LEFT,
            )
        ],
    )
    if image.frame is not None:
        made.ReferencedImageSequence[0].ReferencedFrameNumber = image.frame
    return made


def _keep_appearance(source: Dataset, state: Dataset) -> None:
    """Window, tables and polarity of the image: a presentation state overrides them all (PS3.4 N.2)."""
    state.PresentationLUTShape = "INVERSE" if is_inverted(source) else "IDENTITY"
    for add in (_add_rescale, _add_window):
        try:
            add(source, state)
        except PARSE_ERRORS:  # an odd value of the sender is left out; the viewer then chooses
            continue


def _add_rescale(source: Dataset, state: Dataset) -> None:
    tables = source.get("ModalityLUTSequence")
    if tables:
        state.ModalityLUTSequence = [_lookup_table(tables[0], "ModalityLUTType")]
        return
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope is None or intercept is None or not float(slope):
        return
    state.RescaleIntercept, state.RescaleSlope = intercept, slope
    state.RescaleType = text_of(source, "RescaleType")[:16] or "US"  # unspecified


def _add_window(source: Dataset, state: Dataset) -> None:
    centre, width = _first(source.get("WindowCenter")), _first(source.get("WindowWidth"))
    item = Dataset()
    if centre is not None and width is not None and width >= 1:
        item.WindowCenter, item.WindowWidth = centre, width
        function = text_of(source, "VOILUTFunction")
        if function in {"LINEAR_EXACT", "SIGMOID"}:
            item.VOILUTFunction = function
    elif source.get("VOILUTSequence"):
        item.VOILUTSequence = [_lookup_table(source.VOILUTSequence[0], None)]
    else:
        return
    state.SoftcopyVOILUTSequence = [item]


def _first(value: object) -> float | None:
    """First of possibly many numbers; None where there is none."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, (list, MultiValue)) else value)  # type: ignore[arg-type]


def _lookup_table(table: Dataset, type_keyword: str | None) -> Dataset:
    """A table with the value representations that hold without the pixels it came with."""
    entries, first, bits = (int(value) for value in table.LUTDescriptor)
    data = table.LUTData
    copy = Dataset()
    copy.add_new("LUTDescriptor", "SS" if first < 0 else "US", [entries, first, bits])
    if not isinstance(data, bytes):
        data = np.array(data, dtype=np.int64).astype("<u2").tobytes()
    copy.add_new("LUTData", "OW", data)
    if type_keyword is not None:
        setattr(copy, type_keyword, text_of(table, type_keyword)[:64] or "US")
    return copy

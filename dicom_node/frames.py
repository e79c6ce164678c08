"""Geometry and rescale of every frame: single-frame images, and enhanced objects with functional groups."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.errors import NotAVolumeError
from dicom_node.geometry import Plane
from dicom_node.header import ENHANCED_CLASSES, PARSE_ERRORS, InstanceHeader, floats
from models.errors import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image of a series.

    Attributes
    ----------
    instance : InstanceHeader
        The object that holds it.
    index : int
        Of the frame within the object, from 0.
    plane : Plane
    rescale : Dataset or None
        Pixel Value Transformation item, in enhanced objects that have one.
    """

    instance: InstanceHeader
    index: int
    plane: Plane
    rescale: Dataset | None


def frames_of(instance: InstanceHeader) -> list[Frame]:
    """Every frame of an object with its place in space.

    Raises
    ------
    NotAVolumeError
        NO_GEOMETRY or MULTIFRAME.
    """
    if instance.frames == 1 and instance.sop_class_uid not in ENHANCED_CLASSES:
        return [_frame(instance, 0, instance.dataset, instance.dataset, instance.dataset, None)]
    if instance.sop_class_uid not in ENHANCED_CLASSES:
        raise NotAVolumeError(Reason.MULTIFRAME, "A multi-frame object of a class without frame geometry.")
    try:
        return _enhanced_frames(instance)
    except PARSE_ERRORS:
        raise NotAVolumeError(Reason.MULTIFRAME, "The functional groups cannot be read.") from None


def _enhanced_frames(instance: InstanceHeader) -> list[Frame]:
    dataset = instance.dataset
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) != instance.frames:
        raise NotAVolumeError(Reason.MULTIFRAME, "Not every frame has its functional groups.")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = []
    for index, own in enumerate(per_frame):
        position = _group("PlanePositionSequence", own, shared) or Dataset()
        orientation = _group("PlaneOrientationSequence", own, shared) or Dataset()
        measures = _group("PixelMeasuresSequence", own, shared) or Dataset()
        rescale = _group("PixelValueTransformationSequence", own, shared)
        frames.append(_frame(instance, index, position, orientation, measures, rescale))
    return frames


def _group(name: str, own: Dataset, shared: Dataset) -> Dataset | None:
    """Return a frame's functional group: its own, else the shared one (PS3.3 C.7.6.16)."""
    items = own.get(name) or shared.get(name)
    item: Dataset | None = items[0] if items else None
    return item


def _frame(
    instance: InstanceHeader,
    index: int,
    position: Dataset,
    orientation: Dataset,
    measures: Dataset,
    rescale: Dataset | None,
) -> Frame:
    try:
        place = floats(position.get("ImagePositionPatient"), 3)
        directions = floats(orientation.get("ImageOrientationPatient"), 6)
        spacing = floats(measures.get("PixelSpacing"), 2)
    except PARSE_ERRORS:
        place = directions = spacing = None
    if place is None or directions is None or spacing is None:
        raise NotAVolumeError(Reason.NO_GEOMETRY, "Position, orientation or pixel spacing is missing.")
    return Frame(
        instance=instance,
        index=index,
        plane=Plane(
            position_mm=(place[0], place[1], place[2]),
            orientation=directions,
            spacing_mm=(spacing[0], spacing[1]),
            matrix=(instance.rows, instance.columns),
        ),
        rescale=rescale,
    )

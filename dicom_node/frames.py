"""Geometry and rescale of every frame: of single images, pictures, and enhanced objects."""

from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_node.errors import NotAVolumeError
from dicom_node.geometry import Plane
from dicom_node.header import ENHANCED_CLASSES, PARSE_ERRORS, PICTURE_CLASSES, InstanceHeader, floats
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
    stack : str
        Stack ID (0020,9056), in enhanced objects that name their stacks.
    """

    instance: InstanceHeader
    index: int
    plane: Plane
    rescale: Dataset | None
    stack: str = ""


def is_picture(instance: InstanceHeader) -> bool:
    """Whether an image stands alone: a projection, or one ultrasound picture."""
    return instance.sop_class_uid in PICTURE_CLASSES and instance.frames == 1


def picture_frame(instance: InstanceHeader) -> Frame:
    """The frame of a picture, as if it lay flat; a spacing nobody states is 1 mm."""
    spacing = _picture_spacing(instance.dataset)
    return Frame(
        instance=instance,
        index=0,
        plane=Plane(
            position_mm=(0.0, 0.0, 0.0),
            orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            spacing_mm=spacing or (1.0, 1.0),
            matrix=(instance.rows, instance.columns),
        ),
        rescale=None,
    )


def _picture_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing: calibrated where it is, else that of the detector (PS3.3 10.7)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            spacing = floats(dataset.get(keyword), 2)
        except PARSE_ERRORS:
            continue
        if spacing is not None and min(spacing) > 0:
            return (spacing[0], spacing[1])
    return None


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
        content = _group("FrameContentSequence", own, shared) or Dataset()
        frame = _frame(instance, index, position, orientation, measures, rescale)
        frames.append(replace(frame, stack=str(content.get("StackID") or "")))
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

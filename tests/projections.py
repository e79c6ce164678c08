"""Images without a place in space: radiographs and ultrasound, written with pydicom alone."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from tests.phantoms import mr_image, set_pixels

SHAPE = (40, 32)
BRIGHT = (9, 21)
_PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
_OF_MR = (
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "EchoTime", "RepetitionTime",
    "EchoTrainLength",
)  # fmt: skip


def projection_pixels(bits: int = 12) -> NDArray[np.uint16]:
    """A ramp with one bright pixel."""
    pixels = np.linspace(100, 900, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint16)
    pixels[BRIGHT] = (1 << bits) - 1
    return pixels


def radiograph(number: int = 0, *, name: str = "radiograph", modality: str = "CR") -> FileDataset:
    """One radiograph of the chest, 12 bits, 0.2 mm at the detector."""
    image = mr_image(name, number, projection_pixels())
    is_digital = modality == "DX"
    _rename(image, DigitalXRayImageStorageForPresentation if is_digital else ComputedRadiographyImageStorage)
    image.Modality = modality
    image.BitsStored, image.HighBit = 12, 11
    image.BodyPartExamined = "CHEST"
    image.ViewPosition = "PA"
    image.PatientOrientation = ["L", "F"]
    image.ImagerPixelSpacing = [0.2, 0.2]
    image.WindowCenter, image.WindowWidth = 500, 900
    image.ImageType = ["ORIGINAL", "PRIMARY", ""]
    image.SeriesDescription = "Chest PA"
    return image


def ultrasound(number: int = 0, *, frames: int = 1, name: str = "ultrasound") -> FileDataset:
    """Grey ultrasound: one picture, or a clip."""
    pixels = (projection_pixels(8) // 4).astype(np.uint8)
    image = mr_image(name, number, pixels)
    _rename(image, UltrasoundMultiFrameImageStorage if frames > 1 else UltrasoundImageStorage)
    image.Modality = "US"
    image.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    if frames > 1:
        set_pixels(image, np.stack([np.roll(pixels, index, axis=0) for index in range(frames)]))
        image.NumberOfFrames = frames
        image.FrameTime = 40
        image.FrameIncrementPointer = 0x00181063
    return image


def _rename(image: FileDataset, sop_class: str) -> None:
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword in (*_PLACE, *_OF_MR):
        delattr(image, keyword)

"""Studies with known geometry and content, written with pydicom alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
OBLIQUE = ((0.8, 0.6, 0.0), (-0.6, 0.8, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A stack of MR slices with one bright voxel at a known place.

    Attributes
    ----------
    spacing_mm : tuple of float
        Along (slices, rows, columns).
    bright : tuple of int
        Index (slice, row, column) of the bright voxel.
    directions : two vectors
        Along a row, and along a column.
    """

    shape: tuple[int, int, int] = (6, 12, 10)
    spacing_mm: tuple[float, float, float] = (3.0, 2.0, 1.5)
    bright: tuple[int, int, int] = (2, 7, 4)
    directions: tuple[tuple[float, ...], tuple[float, ...]] = AXIAL
    origin_mm: tuple[float, float, float] = (-20.0, 11.0, 5.0)
    name: str = "phantom"

    @property
    def stored(self) -> NDArray[np.uint16]:
        """Stored values: 100 everywhere, 1000 in the bright voxel."""
        values = np.full(self.shape, 100, np.uint16)
        values[self.bright] = 1000
        return values

    @property
    def bright_mm(self) -> NDArray[np.float64]:
        """Where the bright voxel lies, in patient coordinates."""
        row, column = (np.array(direction) for direction in self.directions)
        normal = np.cross(row, column)
        steps = np.array(self.bright) * np.array(self.spacing_mm)
        place: NDArray[np.float64] = (
            np.array(self.origin_mm) + normal * steps[0] + column * steps[1] + row * steps[2]
        )
        return place

    def datasets(self) -> list[FileDataset]:
        """One MR image per slice, in geometric order."""
        row, column = (np.array(direction) for direction in self.directions)
        normal = np.cross(row, column)
        made = []
        for index, pixels in enumerate(self.stored):
            position = np.array(self.origin_mm) + normal * self.spacing_mm[0] * index
            dataset = mr_image(self.name, index, pixels)
            dataset.ImagePositionPatient = [float(value) for value in position]
            dataset.ImageOrientationPatient = [*self.directions[0], *self.directions[1]]
            dataset.PixelSpacing = list(self.spacing_mm[1:])
            dataset.SliceThickness = self.spacing_mm[0]
            made.append(dataset)
        return made


def mr_image(name: str, number: int, pixels: NDArray[np.generic]) -> FileDataset:
    """One MR image of a study named by `name`, with everything but geometry."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid(name, "instance", str(number))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = uid(name, "study")
    dataset.SeriesInstanceUID = uid(name, "series")
    dataset.FrameOfReferenceUID = uid(name, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientName = "Phantom^One"
    dataset.PatientID = f"PH-{name}"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.PatientAge = "050Y"
    dataset.StudyDate, dataset.StudyTime = "20260301", "101500"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Phantom head"
    dataset.SeriesDescription = "T1 phantom"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number + 1
    dataset.Modality = "MR"
    dataset.Manufacturer = "Phantom maker"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence = "GR"
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D"
    dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = 3.0, 8.0, 1
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    set_pixels(dataset, pixels)
    return dataset


def set_pixels(dataset: Dataset, pixels: NDArray[np.generic]) -> None:
    """Replace the pixels and everything that describes them."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"


def write(folder: Path, datasets: Sequence[FileDataset]) -> list[Path]:
    """Write datasets as files whose names say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in datasets:
        path = folder / f"{dataset.SOPInstanceUID[-12:]}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return sorted(paths)


def changed(datasets: list[FileDataset], change: Callable[[int, FileDataset], None]) -> list[FileDataset]:
    """Apply `change` to every dataset with its number."""
    for number, dataset in enumerate(datasets):
        change(number, dataset)
    return datasets


def uid(*parts: str) -> str:
    """UID that depends on its parts alone."""
    return generate_uid(entropy_srcs=list(parts))

"""A volume written as a scanner would send it: one MR image per slice (PS3.3 A.4).

Only demonstrations and tests need this. The bytes are a pure function of the arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat

from dicom_node.identity import derive_uid
from models.volume import Volume

RIGHT_ANGLE = 1e-3  # largest cosine between two axes of the grid that is rounding
SCANNER_BITS = 12  # what most scanners store
_CONTRAST: Final = (2.0, 98.0)  # percentiles of the tissue between which the default window lies

Plane = Literal["axial", "coronal", "sagittal"]

# Direction of each slice axis, of a step down the rows, and of a step along a row; LPS, as read on a screen.
_AXES: Final = MappingProxyType(
    {
        "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
        "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
        "sagittal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who was imaged. Invented, or open data: nothing here is pseudonymised.

    Attributes
    ----------
    name : str
        In DICOM's form, ``Family^Given``.
    patient_id : str
    sex : str
        M, F, O or empty.
    birth_date : date or None
    """

    name: str
    patient_id: str
    sex: str = ""
    birth_date: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One visit to the scanner.

    Attributes
    ----------
    name : str
        What the UIDs derive from: the same name gives the same study.
    started_at : datetime
        Aware; its offset from UTC is written.
    description, study_id, accession_number : str
    """

    name: str
    started_at: datetime
    description: str
    study_id: str = ""
    accession_number: str = ""

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return derive_uid("writer-study", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How one series is made and labelled.

    Attributes
    ----------
    description : str
        Series Description.
    number : int
        Series Number; one series a number.
    image_type : tuple of str
        PS3.3 C.8.3.1.1.1.
    derivation : str
        What was done to the pixels, where they are not as measured.
    manufacturer, model_name : str
        Of the scanner.
    body_part : str
        Body Part Examined.
    """

    description: str
    number: int = 1
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "OTHER")
    derivation: str = ""
    manufacturer: str = ""
    model_name: str = ""
    body_part: str = "BRAIN"


def write_series(
    volume: Volume,
    folder: Path,
    *,
    patient: Patient,
    study: Study,
    protocol: Protocol,
    first_number: int = 1,
) -> list[Path]:
    """Write each slice of a volume as an MR image; files in the order of the slices.

    Parameters
    ----------
    volume : Volume
        Values are rounded and stored as they are: whole numbers from -32768 to 65535. The axes are at
        right angles.
    folder : Path
        Made where it is missing; files are named by series and instance number.
    patient : Patient
    study : Study
    protocol : Protocol
    first_number : int
        Instance Number of the first slice, so that a series can be written in several stacks.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        If the values do not fit 16 bits or the grid is sheared.
    """
    pixels = _stored(volume.voxels)
    directions = _directions(volume)
    window = _window(volume.voxels)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for index, plane in enumerate(pixels):
        dataset = _instance(patient, study, protocol, first_number + index)
        _set_plane(dataset, volume, directions, index)
        _set_pixels(dataset, plane, bits=_bits(pixels), window=window)
        path = folder / f"{protocol.number:02d}-{first_number + index:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def as_acquired(volume: Volume, plane: Plane, *, is_reversed: bool = False) -> Volume:
    """The same voxels at the same places, in the order in which a scan in this plane stores them.

    Parameters
    ----------
    volume : Volume
        At most tilted against the patient's axes, not turned by 45 degrees.
    plane : str
        Plane of the slices.
    is_reversed : bool
        Slices from the head downwards, from the back forwards, or from the left to the right.
    """
    slices, rows, columns = (np.array(axis) for axis in _AXES[plane])
    wanted = np.array([-slices if is_reversed else slices, rows, columns]).T  # LPS by new axis
    units = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    cosines = wanted.T @ units  # new axis by old axis
    source = tuple(int(old) for old in np.abs(cosines).argmax(axis=1))
    if sorted(source) != [0, 1, 2]:
        raise ValueError("the grid is turned too far to tell its planes apart")
    steps = [-1 if cosines[new, old] < 0 else 1 for new, old in enumerate(source)]
    affine = np.eye(4)
    affine[:3, 3] = volume.affine[:3, 3]
    for new, (old, step) in enumerate(zip(source, steps, strict=True)):
        affine[:3, new] = step * volume.affine[:3, old]
        if step < 0:
            affine[:3, 3] += volume.affine[:3, old] * (volume.voxels.shape[old] - 1)
    flips = tuple(slice(None, None, step) for step in steps)
    return replace(
        volume,
        voxels=np.ascontiguousarray(volume.voxels.transpose(source)[flips]),
        spacing_mm=(
            volume.spacing_mm[source[0]],
            volume.spacing_mm[source[1]],
            volume.spacing_mm[source[2]],
        ),
        affine=affine,
        padding=None
        if volume.padding is None
        else np.ascontiguousarray(volume.padding.transpose(source)[flips]),
    )


def _stored(voxels: NDArray[np.float32]) -> NDArray[np.uint16] | NDArray[np.int16]:
    """Voxels as stored: unsigned where nothing is below zero."""
    least, most = float(voxels.min()), float(voxels.max())
    whole = np.rint(voxels)
    if least > -0.5 and most < 65535.5:  # noqa: PLR2004 - what rounds into 16 bits without sign
        return whole.astype(np.uint16)
    if least > -32768.5 and most < 32767.5:  # noqa: PLR2004 - and with
        return whole.astype(np.int16)
    raise ValueError(f"values from {least:g} to {most:g} do not fit 16 bits; scale them first")


def _bits(pixels: NDArray[np.generic]) -> int:
    is_small = pixels.dtype == np.uint16 and int(pixels.max()) < 1 << SCANNER_BITS
    return SCANNER_BITS if is_small else 16


def _window(voxels: NDArray[np.float32]) -> tuple[int, int] | None:
    """Centre and width for a first look; None where there is no contrast."""
    tissue = voxels[voxels > voxels.min()]
    if tissue.size == 0:
        return None
    low, high = np.percentile(tissue, _CONTRAST)
    return round(float(low + high) / 2), max(round(float(high - low)), 1)


def _directions(volume: Volume) -> NDArray[np.float64]:
    """Unit vectors of a step along a row, then of one down the columns; shape (2, 3)."""
    units = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    cosines = units.T @ units - np.eye(3)
    if np.abs(cosines).max() > RIGHT_ANGLE:
        raise ValueError("the axes of the grid are not at right angles")
    return np.array([units[:, 2], units[:, 1]])


def _instance(patient: Patient, study: Study, protocol: Protocol, number: int) -> FileDataset:
    """Everything but geometry and pixels."""
    series = str(protocol.number)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(derive_uid("writer-instance", study.name, series, str(number)))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(derive_uid("writer-implementation"))
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = study.uid
    dataset.SeriesInstanceUID = derive_uid("writer-series", study.name, series)
    dataset.FrameOfReferenceUID = derive_uid("writer-frame-of-reference", study.name)
    dataset.PositionReferenceIndicator = ""
    _set_patient(dataset, patient, study.started_at.date())
    dataset.StudyID = study.study_id
    dataset.AccessionNumber = study.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = study.description
    for stem in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{stem}Date", study.started_at.strftime("%Y%m%d"))
        setattr(dataset, f"{stem}Time", study.started_at.strftime("%H%M%S"))
    dataset.TimezoneOffsetFromUTC = study.started_at.strftime("%z")
    _set_protocol(dataset, protocol)
    dataset.InstanceNumber = number
    return dataset


def _set_patient(dataset: FileDataset, patient: Patient, on: date) -> None:
    dataset.PatientName = patient.name
    dataset.PatientID = patient.patient_id
    dataset.PatientSex = patient.sex
    dataset.PatientBirthDate = ""
    if patient.birth_date is not None:
        dataset.PatientBirthDate = patient.birth_date.strftime("%Y%m%d")
        has_had_birthday = (on.month, on.day) >= (patient.birth_date.month, patient.birth_date.day)
        years = on.year - patient.birth_date.year - (not has_had_birthday)
        dataset.PatientAge = f"{years:03d}Y"


def _set_protocol(dataset: FileDataset, protocol: Protocol) -> None:
    """Series, equipment and MR image attributes. What the source does not tell is empty (type 2)."""
    dataset.Modality = "MR"
    dataset.SeriesNumber = protocol.number
    dataset.SeriesDescription = protocol.description
    dataset.ProtocolName = protocol.description
    dataset.BodyPartExamined = protocol.body_part
    dataset.PatientPosition = "HFS"
    dataset.Manufacturer = protocol.manufacturer
    dataset.ManufacturerModelName = protocol.model_name
    dataset.ImageType = list(protocol.image_type)
    if protocol.derivation:
        dataset.DerivationDescription = protocol.derivation
    dataset.ScanningSequence = "GR"
    dataset.SequenceVariant = "SP"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D"
    dataset.RepetitionTime = None
    dataset.EchoTime = None
    dataset.EchoTrainLength = None
    dataset.AcquisitionNumber = 1
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"


def _set_plane(dataset: FileDataset, volume: Volume, directions: NDArray[np.float64], index: int) -> None:
    """Image plane attributes of one slice (PS3.3 C.7.6.2)."""
    thickness, down, along = volume.spacing_mm
    position = volume.affine[:3, 3] + index * volume.affine[:3, 0]
    normal = np.cross(directions[0], directions[1])
    dataset.ImagePositionPatient = _decimals(position)
    dataset.ImageOrientationPatient = _decimals(directions.ravel())
    dataset.PixelSpacing = _decimals((down, along))
    dataset.SliceThickness = DSfloat(thickness, auto_format=True)
    dataset.SpacingBetweenSlices = DSfloat(thickness, auto_format=True)
    dataset.SliceLocation = DSfloat(float(position @ normal), auto_format=True)


def _decimals(values: Sequence[float] | NDArray[np.float64]) -> list[DSfloat]:
    """Decimal strings of at most 16 characters; no minus before zero."""
    return [DSfloat(float(value) + 0.0, auto_format=True) for value in values]


def _set_pixels(
    dataset: FileDataset, plane: NDArray[np.generic], *, bits: int, window: tuple[int, int] | None
) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(plane.dtype == np.int16)
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = window
    dataset.PixelData = plane.astype(plane.dtype.newbyteorder("<")).tobytes()

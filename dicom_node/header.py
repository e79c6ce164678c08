"""What a file says about itself, read with bounded effort and without trust."""

import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

from dicom_node.elements import read_file_meta
from dicom_node.errors import UnreadableInstanceError
from dicom_node.keys import age_years
from models.volume import Acquisition

# Values are checked where they are used; a warning per odd value would quote it (I9).
config.settings.reading_validation_mode = config.IGNORE

LARGEST_INFLATED = 1 << 30  # bytes; a deflated data set that grows beyond is a bomb, not a study
_BLOCK = 1 << 20

# What pydicom is known to raise on damaged or hostile files.
PARSE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# Classes whose pixels are intensities a model may be asked about.
IMAGE_CLASSES = frozenset(
    {
        CTImageStorage,
        EnhancedCTImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        MRImageStorage,
        EnhancedMRImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForPresentation,
        PositronEmissionTomographyImageStorage,
        UltrasoundImageStorage,
        UltrasoundMultiFrameImageStorage,
        XRayAngiographicImageStorage,
    }
)
# Classes whose every image stands alone, without a place in space.
PICTURE_CLASSES = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForPresentation,
        UltrasoundImageStorage,
        XRayAngiographicImageStorage,
    }
)
ENHANCED_CLASSES = frozenset(
    {
        EnhancedCTImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        EnhancedMRImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
    }
)


# Syntaxes that lose, whatever (0028,2110) says. JPEG 2000 may or may not: there the flag decides.
LOSSY_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHeader:
    """One instance, as far as grouping and gating need it.

    Attributes
    ----------
    path : Path
    series_uid, sop_class_uid : str
    rows, columns, frames, samples : int
        0 where unstated; frames default to 1.
    photometric : str
    acquisition : Acquisition
    dataset : Dataset
        All elements before the pixels.
    """

    path: Path
    series_uid: str
    sop_class_uid: str
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    acquisition: Acquisition
    dataset: Dataset


def read_dataset(path: Path, *, with_pixels: bool = False) -> FileDataset:
    """Parse one file.

    Raises
    ------
    UnreadableInstanceError
        If it cannot be parsed. The cause is not carried on, for it may quote the file (I9).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refuse_bomb(path)
            dataset = dcmread(path, stop_before_pixels=not with_pixels)
            if not with_pixels:  # whoever asks for pixels has read the header before
                dataset.decode()
    except PARSE_ERRORS as error:
        raise UnreadableInstanceError(f"The data set cannot be parsed ({type(error).__name__}).") from None
    return dataset


def read_instance(path: Path) -> InstanceHeader:
    """Read what grouping and gating need of one file.

    Raises
    ------
    UnreadableInstanceError
        If it cannot be parsed or an element holds an impossible value.
    """
    dataset = read_dataset(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            instance = InstanceHeader(
                path=path,
                series_uid=_text(dataset, "SeriesInstanceUID"),
                sop_class_uid=_text(dataset, "SOPClassUID"),
                rows=_number(dataset, "Rows"),
                columns=_number(dataset, "Columns"),
                frames=_number(dataset, "NumberOfFrames") or 1,
                samples=_number(dataset, "SamplesPerPixel"),
                photometric=_text(dataset, "PhotometricInterpretation"),
                acquisition=_acquisition(dataset),
                dataset=dataset,
            )
    except PARSE_ERRORS as error:
        raise UnreadableInstanceError(f"An element cannot be read ({type(error).__name__}).") from None
    if not (instance.series_uid and instance.sop_class_uid):  # pydicom makes a data set of almost any bytes
        raise UnreadableInstanceError("The data set names no series or no class.")
    return instance


def floats(value: Any, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers, or None where the value is something else."""
    if not isinstance(value, (list, tuple, MultiValue)) or len(value) != count:
        return None
    numbers = tuple(float(number) for number in value)
    return numbers if all(abs(number) < float("inf") for number in numbers) else None


def _acquisition(dataset: Dataset) -> Acquisition:
    return Acquisition(
        modality=_text(dataset, "Modality").upper(),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        description=_text(dataset, "SeriesDescription"),
        manufacturer=_text(dataset, "Manufacturer"),
        model_name=_text(dataset, "ManufacturerModelName"),
        age_years=age_years(_text(dataset, "PatientAge")),
        contrast_agent=bool(
            _text(dataset, "ContrastBolusAgent") or dataset.get("ContrastBolusAgentSequence")
        ),
        is_lossy=_text(dataset, "LossyImageCompression") == "01" or _syntax(dataset) in LOSSY_SYNTAXES,
        is_burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        image_type=tuple(str(value).upper() for value in _many(dataset.get("ImageType"))),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    # Control characters and stray surrogates are no text, and a database refuses them.
    return "" if value is None else "".join(c for c in str(value) if c.isprintable()).strip()


def _syntax(dataset: Dataset) -> str:
    """Transfer syntax of a file; empty where it states none."""
    return str(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID") or "")


def _number(dataset: Dataset, keyword: str) -> int:
    value = dataset.get(keyword)
    return 0 if value in {None, ""} else int(value)


def _many(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple, MultiValue)) else (value,)


def refuse_bomb(path: Path) -> None:
    """Raise ValueError if the file is deflated and inflates beyond measure: pydicom inflates all of it."""
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        read_file_meta(file)  # not by the group's length: pydicom does not believe it either
        next_block: Callable[[], bytes] = lambda: inflater.unconsumed_tail or file.read(_BLOCK)  # noqa: E731
        while block := next_block():
            size += len(inflater.decompress(block, _BLOCK))
            if size > LARGEST_INFLATED:
                raise ValueError("inflates beyond the limit")
            if inflater.eof:
                return

"""Every coded concept, number and fixed sentence of the result objects.

Standard codes where a standard concept fits, private ones (``99VIGIL``) where none does. The value of a
private code is never given a second meaning.
"""

from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.identity import CODING_SCHEME
from dicom_node.kinds import ResultKind
from models.errors import Reason

SERIES_NUMBER: Final = MappingProxyType(
    {
        ResultKind.SEGMENTATION: 9001,
        ResultKind.PARAMETRIC_MAP: 9002,
        ResultKind.SECONDARY_CAPTURE: 9003,
        ResultKind.REPORT: 9004,
        ResultKind.KEY_OBJECTS: 9005,
        ResultKind.PRESENTATION: 9006,
        ResultKind.FRACTIONAL_SEGMENTATION: 9007,
        ResultKind.LABEL_MAP: 9008,
    }
)
SERIES_DESCRIPTION: Final = MappingProxyType(
    {
        ResultKind.SEGMENTATION: "AI anomaly SEG - not for diagnostic use",
        ResultKind.FRACTIONAL_SEGMENTATION: "AI anomaly fractional SEG - not for diagnostic use",
        ResultKind.LABEL_MAP: "AI anomaly label map - not for diagnostic use",
        ResultKind.PARAMETRIC_MAP: "AI anomaly map - not for diagnostic use",
        ResultKind.SECONDARY_CAPTURE: "AI anomaly overlay - not for diagnostic use",
        ResultKind.REPORT: "AI anomaly report - not for diagnostic use",
        ResultKind.KEY_OBJECTS: "AI anomaly key images - not for diagnostic use",
        ResultKind.PRESENTATION: "AI anomaly outlines - not for diagnostic use",
    }
)

CHARACTER_SET: Final = "ISO_IR 192"
CONTENT_LABEL: Final = "ANOMALY"
CONTENT_QUALIFICATION: Final = "RESEARCH"

BURNED_IN: Final = "NOT FOR DIAGNOSTIC USE - anomaly ranking"
DISCLAIMER: Final = (
    "Unsupervised anomaly ranking by a machine, unverified by a person. It is not a diagnosis and not for "
    "diagnostic use. A low rank does not mean that the study is normal."
)
NO_REGION: Final = "No region above threshold. This does not mean that the study is normal."
NOT_SCORED: Final = "Scoring failed: there is no score. This does not mean that the study is normal."
NOT_ASSESSED: Final = "Not assessable: no score was computed. This does not mean that the study is normal."

NO_DIAGNOSIS: Final = "It is not a diagnosis. A person must look at the study."
NOT_ASSESSABLE_HEADING: Final = "NOT ASSESSABLE"
FAILED_HEADING: Final = "SCORING FAILED"
ALL_SUPERSEDED: Final = (
    "Every earlier result of Vigil on this study is superseded, its pictures, percentile and report: "
    "use none of them."
)

SHORT_TEXT: Final = 1024  # characters of a value of VR ST (PS3.5 6.2)
SERIAL_LENGTH: Final = 16  # hexadecimal digits of the model's hash that serve as serial number
SMALL_GROUP: Final = 50  # below it the report says that the group is small


def vigil(value: str, meaning: str) -> Code:
    """Private concept of Vigil."""
    return Code(value, CODING_SCHEME, meaning)


def coding_scheme() -> Dataset:
    """Item of the Coding Scheme Identification Sequence that declares ``99VIGIL`` (PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = CODING_SCHEME
    item.CodingSchemeName = "Vigil anomaly triage concepts"
    item.CodingSchemeVersion = "1"
    item.CodingSchemeResponsibleOrganization = "Vigil"
    return item


def coded(code: Code) -> Dataset:
    """Item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


# What was found, and where. "Lesion" would claim more than a score supports; the category only sorts it.
ABNORMAL_STRUCTURE: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANOMALOUS_REGION: Final = vigil("ANOM-REG", "Anomalous region")
BAND_LABELS: Final = ("Anomaly band 1 (low)", "Anomaly band 2 (middle)", "Anomaly band 3 (high)")
ONLY_LABELS: Final = (
    "Anomaly band 1 (low), without bands 2 and 3",
    "Anomaly band 2 (middle), without band 3",
    "Anomaly band 3 (high)",
)
BAND_COLOURS: Final = ((45.0, 52.0, 5.0), (62.0, 52.0, 55.0), (85.0, -5.0, 70.0))  # CIELab, rising lightness

# Numbers.
ANOMALY_SCORE: Final = vigil("ANOM-SCORE", "Anomaly score")
NORMALITY_PERCENTILE: Final = vigil("NORM-PCT", "Normality percentile, low is unusual")
P_VALUE: Final = vigil("P-VALUE", "p-value under reference group")
ANOMALY_MAP_VALUE: Final = vigil("ANOM-MAP", "Anomaly map value")
BAND_THRESHOLD: Final = vigil("BAND-MIN", "Lower threshold of anomaly band")
PERCENTILE_RANKING: Final = Code("121415", "DCM", "Percentile Ranking of measurement")
AREA: Final = Code("42798000", "SCT", "Area")
VOLUME: Final = Code("118565006", "SCT", "Volume")
MAXIMUM: Final = Code("56851009", "SCT", "Maximum")
MEAN: Final = Code("373098007", "SCT", "Mean")
NO_UNITS: Final = Code("1", "UCUM", "no units")
PERCENT: Final = Code("%", "UCUM", "percent")
SQUARE_MILLIMETRE: Final = Code("mm2", "UCUM", "square millimeter")
CUBIC_CENTIMETRE: Final = Code("cm3", "UCUM", "cubic centimeter")

# Judgements. Normality is never stated: neither "Normal" nor "Abnormal" is a machine's to say.
NORMALITY: Final = Code("121402", "DCM", "Normality")
NORMALITY_UNDETERMINED: Final = Code("371934000", "SCT", "Normality Undetermined")
ASSESSMENT: Final = vigil("ASSESSMENT", "Anomaly assessment")
SCORED: Final = vigil("SCORED", "Scored")
NOT_ASSESSABLE: Final = vigil("NOT-ASSESSABLE", "Not assessable")
REASON: Final = vigil("NA-REASON", "Reason not assessable")
FAILED: Final = vigil("FAILED", "Scoring failed")
FAILED_SUPERSEDES: Final = vigil("FAILED-SUPERSEDE", "Scoring failed; earlier result superseded")

# Words.
STATEMENT: Final = vigil("STATEMENT", "Statement")
NOTICE: Final = vigil("NOTICE", "Notice of intended use")

# Documents, devices, images.
OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")
KEY_OBJECT_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")
SOURCE: Final = Code("260753009", "SCT", "Source")
ANOMALY_DETECTION: Final = vigil("ANOM-DERIV", "Unsupervised anomaly detection")
REPORT_TITLE: Final = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
DEVICE: Final = Code("121007", "DCM", "Device")
ACQUISITION_EQUIPMENT: Final = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")

# The code of every reason, for the report. A reason keeps its number for good.
REASONS: Final = MappingProxyType(
    {
        Reason.NO_IMAGES: vigil("NA-01", "No image that can be triaged"),
        Reason.UNREADABLE: vigil("NA-02", "Data set cannot be parsed"),
        Reason.WRONG_MODALITY: vigil("NA-03", "No model serves this modality"),
        Reason.WRONG_BODY_PART: vigil("NA-04", "Body part outside the model card"),
        Reason.WRONG_SEQUENCE: vigil("NA-05", "MR weighting outside the model card"),
        Reason.LOCALISER: vigil("NA-06", "Localiser images only"),
        Reason.DERIVED: vigil("NA-07", "Derived images"),
        Reason.COLOUR: vigil("NA-08", "Colour pixels"),
        Reason.BURNED_IN: vigil("NA-09", "Burned-in annotation"),
        Reason.LOSSY: vigil("NA-10", "Lossy compression"),
        Reason.MULTIFRAME: vigil("NA-11", "Multi-frame layout is not one regular stack"),
        Reason.NO_GEOMETRY: vigil("NA-12", "Geometry missing"),
        Reason.MIXED_GEOMETRY: vigil("NA-13", "Mixed geometry in the series"),
        Reason.DUPLICATE_POSITIONS: vigil("NA-14", "Several images at one position"),
        Reason.MISSING_SLICES: vigil("NA-15", "Missing slices"),
        Reason.TOO_FEW_SLICES: vigil("NA-16", "Too few slices"),
        Reason.TOO_LARGE: vigil("NA-17", "Too many voxels"),
        Reason.UNDECODABLE: vigil("NA-18", "Pixels cannot be decoded"),
        Reason.CONSTANT_PIXELS: vigil("NA-19", "Constant pixels"),
        Reason.WRONG_EXTENT: vigil("NA-20", "Field of view or organ size outside the model card"),
        Reason.NOT_SKULL_STRIPPED: vigil("NA-21", "Not skull-stripped"),
        Reason.WRONG_AGE: vigil("NA-22", "Age outside the model card"),
        Reason.MIXED_PATIENTS: vigil("NA-23", "Several patients in the series"),
        Reason.OUT_OF_RANGE: vigil("NA-24", "Values beyond the declared bits"),
        Reason.CLIPPED: vigil("NA-25", "Clipped pixels"),
        Reason.BLANK_SLICES: vigil("NA-26", "Blank slices"),
        Reason.UNLIKE_TRAINING: vigil("NA-27", "Unlike the images the model knows"),
        Reason.UNCALIBRATED: vigil("NA-28", "Not calibrated for this study or scanner"),
        Reason.DRIFTED: vigil("NA-29", "Not calibrated: the scanner has changed"),
    }
)

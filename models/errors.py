"""What can go wrong between a volume and its scores, and who should act.

ModelError
├── GeometryError           the caller built an impossible volume
├── NotAssessableError      the study is shown as "not assessable" with the coded reason
├── NoNumberError           a study fails with its code; an operator verifies the model
├── DeviceMemoryError       a study fails with its code; an operator gives the device to Vigil alone
├── ServerAwayError         studies wait; an operator brings the inference server back
├── ServerRefusedError      studies fail with the code; an operator gives the server the model
├── ArtefactError           the worker refuses to start; an operator restores the file it names
├── DocumentError           a person restores the calibration document it names, or calibrates again
├── RecordError             the author of a method record corrects the field it names
├── TrainingError           whoever trains changes what the message names, and starts again
└── DatasetError            whoever prepared the data folder corrects the file and row it names
"""

from enum import StrEnum
from pathlib import Path


class Reason(StrEnum):
    """Why a study or series was not scored. Stored, shown and sent; codes are never reused."""

    NO_IMAGES = "no_images"  # no instance of a class that can be triaged
    UNREADABLE = "unreadable"  # the data set cannot be parsed
    WRONG_MODALITY = "wrong_modality"  # no model serves this modality
    WRONG_BODY_PART = "wrong_body_part"  # the model card excludes this body part
    WRONG_SEQUENCE = "wrong_sequence"  # the model card excludes this MR weighting
    LOCALISER = "localiser"  # scout images only
    DERIVED = "derived"  # reformats, projections and other secondary images
    COLOUR = "colour"  # colour pixels where intensities are expected
    BURNED_IN = "burned_in"  # text in the pixels
    LOSSY = "lossy"  # lossy compression the model was not made for
    MULTIFRAME = "multiframe"  # a multi-frame layout that is not one regular stack
    NO_GEOMETRY = "no_geometry"  # orientation, position or spacing missing
    MIXED_GEOMETRY = "mixed_geometry"  # orientations, matrices or spacings differ within the series
    DUPLICATE_POSITIONS = "duplicate_positions"  # several images at one position (echoes, time points)
    MISSING_SLICES = "missing_slices"  # a gap in the stack
    TOO_FEW_SLICES = "too_few_slices"  # not a volume
    TOO_LARGE = "too_large"  # more voxels than the configured limit
    UNDECODABLE = "undecodable"  # no decoder here can read the pixels
    CONSTANT_PIXELS = "constant_pixels"  # all-zero or single-valued pixels
    WRONG_EXTENT = "wrong_extent"  # field of view or organ size outside the model card
    NOT_SKULL_STRIPPED = "not_skull_stripped"  # the model expects the brain alone
    WRONG_AGE = "wrong_age"  # age outside the model card
    MIXED_PATIENTS = "mixed_patients"  # the images of one series name different patients
    OUT_OF_RANGE = "out_of_range"  # stored values beyond the bits that the header declares
    CLIPPED = "clipped"  # so much at the highest value that what was there is lost
    BLANK_SLICES = "blank_slices"  # slices without an image between slices with one
    UNLIKE_TRAINING = "unlike_training"  # not the kind of image the model knows, whatever the header says
    UNCALIBRATED = "uncalibrated"  # no reference group for such a study: its raw score has no percentile
    DRIFTED = "drifted"  # its reference group does not hold any more; the percentile is withdrawn


class ModelError(Exception):
    """Scoring failed. See the more specific error."""


class GeometryError(ModelError):
    """The voxel grid is impossible: spacings must be positive and the affine invertible."""


class NotAssessableError(ModelError):
    """A volume is outside what the model was made for.

    Attributes
    ----------
    reason : Reason
        The coded reason; stored and shown.
    detail : str
        One sentence for people, free of identity.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class NoNumberError(ModelError):
    """The network gave no number where one must be. Run `vigil models verify`, then look after the device."""


class DeviceMemoryError(ModelError):
    """Not even one sample fits the memory of the device. Free it, or take a device with more memory."""


class ServerAwayError(ModelError):
    """The inference server does not answer. Start it, check VIGIL_TRITON, or unset that to run here."""


class ServerRefusedError(ModelError):
    """The inference server does not run the model. The message says what to change."""


class ArtefactError(ModelError):
    """A model artefact is missing, incomplete or changed. Restore the named file from the release.

    Attributes
    ----------
    path : Path
        The file at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path.name} of artefact {path.parent.name}: {problem}")
        self.path = path


class DocumentError(ModelError):
    """A calibration document cannot be used. Restore it from the backup, or calibrate again.

    Attributes
    ----------
    path : Path
        The document.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path.name}: {problem}. Restore it, or calibrate again.")
        self.path = path


class RecordError(ModelError):
    """A method record is not valid. Correct the named field."""


class TrainingError(ModelError):
    """A training cannot go on: a generator collapsed. The message says what to change."""


class DatasetError(ModelError):
    """A data folder cannot be used for training or evaluation. Correct the file and row the message names."""

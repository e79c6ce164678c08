"""What can go wrong in DICOM, and who should act.

DicomNodeError
├── PortInUseError             the operator frees the port or sets another
├── PeersError                 the operator corrects the named field of the peers file
├── UnreadableInstanceError    the sender must resend
├── NotAVolumeError            the study is shown as "not assessable" with the coded reason
└── DeliveryError
    ├── DestinationBusyError       retried with growing pauses
    └── DestinationRefusedError    never retried; an operator decides
"""

from models.errors import Reason


class DicomNodeError(Exception):
    """DICOM work failed. See the more specific error."""


class PortInUseError(DicomNodeError):
    """The node cannot listen. Stop what uses the port, or set another with VIGIL_PORT."""


class PeersError(DicomNodeError):
    """The peers file is not valid. Correct the field the message names."""


class UnreadableInstanceError(DicomNodeError):
    """The instance cannot be parsed. It is kept in quarantine; the sender must resend a good one."""


class NotAVolumeError(DicomNodeError):
    """This series is no volume a model can be asked about.

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


class DeliveryError(DicomNodeError):
    """A result did not reach its destination.

    Attributes
    ----------
    status : int or None
        DIMSE status the destination answered, if it answered.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class DestinationBusyError(DeliveryError):
    """The destination cannot take the object now. It is tried again."""


class DestinationRefusedError(DeliveryError):
    """The destination rejected the object. Check its accepted SOP classes with ``vigil doctor``."""

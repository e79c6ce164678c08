"""What can go wrong in DICOM, and who should act.

DicomNodeError
├── PortInUseError             the operator frees the port or sets another
├── PeersError                 the operator corrects the named field of the peers file
├── UnknownPeerError           the operator names a peer of the peers file
├── SecretError                the operator restores the file of the site secret
├── SpoolFullError             the sender tries again; the operator frees disk space
├── UnreadableInstanceError    the sender must resend
│   └── NewerPackError         the operator updates this machine
├── MalformedMessageError      the other end sends a proper HTTP message
├── NotAVolumeError            the study is shown as "not assessable" with the coded reason
└── DeliveryError
    ├── DestinationBusyError       retried with growing pauses
    └── DestinationRefusedError    never retried; an operator decides
        ├── SopClassRefusedError   the other results go on; an operator may allow the class and replay
        └── NotOfferedError        the peer lacks the service that was asked for; another way is taken
"""

from models.errors import NotAssessableError


class DicomNodeError(Exception):
    """DICOM work failed. See the more specific error."""


class PortInUseError(DicomNodeError):
    """The node cannot listen. Stop what uses the port, or set another with VIGIL_PORT."""


class PeersError(DicomNodeError):
    """The peers file is not valid. Correct the field the message names."""


class UnknownPeerError(DicomNodeError):
    """No peer has this name. See them with ``vigil peers list``."""


class SecretError(DicomNodeError):
    """The file of the site secret is not usable. Restore it from the backup: study keys depend on it."""


class SpoolFullError(DicomNodeError):
    """The disk of the spool is full. Free space, or add a larger disk; senders try again by themselves."""


class UnreadableInstanceError(DicomNodeError):
    """The instance cannot be parsed. It is kept in quarantine; the sender must resend a good one."""


class NewerPackError(UnreadableInstanceError):
    """The pack was written by a later release. Update Vigil on this machine, then replay the study."""


class MalformedMessageError(DicomNodeError):
    """The message is not what its header says. Send multipart/related with parts of application/dicom."""


class NotAVolumeError(NotAssessableError, DicomNodeError):
    """The series is no volume a model can be asked about. The study is shown as not assessable."""


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
    """The destination rejected the object. Check which SOP classes it accepts, then replay the study."""


class SopClassRefusedError(DestinationRefusedError):
    """The destination does not accept the object's SOP class. Its other results are sent all the same."""


class NotOfferedError(DestinationRefusedError):
    """The peer does not offer the service, or not to us. See what it offers with ``vigil peers test``."""

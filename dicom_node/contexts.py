"""What the node negotiates: storage classes, transfer syntaxes, and pynetdicom's process-wide switches."""

import logging
import warnings

from pydicom.uid import (
    HEVCM10P51,
    HEVCMP51,
    HTJ2K,
    JPEG2000,
    MPEG2MPHL,
    MPEG2MPHLF,
    MPEG2MPML,
    MPEG2MPMLF,
    MPEG4HP41,
    MPEG4HP41BD,
    MPEG4HP41BDF,
    MPEG4HP41F,
    MPEG4HP42STEREO,
    MPEG4HP42STEREOF,
    MPEG4HP422D,
    MPEG4HP422DF,
    MPEG4HP423D,
    MPEG4HP423DF,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, _config
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

# Newer than pydicom's table: each frame deflated by itself (PS3.5 A.4.13). Stored, not decoded here.
DEFLATED_IMAGE_FRAME = UID("1.2.840.10008.1.2.8.1")

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

# The acceptor takes the first of *its own* list that was proposed for a context (PS3.8 9.3.3.2 leaves the
# choice to it). Native comes first, then what is lossless: no sender is ever led to compress, least of all
# with loss. A sender whose pixels are compressed already proposes that syntax in a context of its own.
TRANSFER_SYNTAXES = (
    *NATIVE,
    JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL,
    RLELossless,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K,
    # Stored, never scored. JPIP is missing on purpose: its pixels are not in the object.
    MPEG2MPML, MPEG2MPMLF, MPEG2MPHL, MPEG2MPHLF, MPEG4HP41, MPEG4HP41F, MPEG4HP41BD, MPEG4HP41BDF,
    MPEG4HP422D, MPEG4HP422DF, MPEG4HP423D, MPEG4HP423DF, MPEG4HP42STEREO, MPEG4HP42STEREOF,
    HEVCMP51, HEVCM10P51,
    DEFLATED_IMAGE_FRAME,
)  # fmt: skip

# Retired from the standard, not from hospitals (PS3.6 annex A).
RETIRED_STORAGE = {
    "1.2.840.10008.5.1.4.1.1.3": "UltrasoundMultiFrameImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.5": "NuclearMedicineImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.6": "UltrasoundImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.12.3": "XRayAngiographicBiPlaneImageStorageRetired",
}

MAX_PDU_BYTES = 131_072  # a larger one gained nothing, 16 KiB cost a fifth


def storage_classes() -> tuple[str, ...]:
    """Every storage class that is accepted: a refused one makes many senders fail the whole job."""
    current = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    return (*current, *(uid for uid in RETIRED_STORAGE if uid not in current))


def application_entity(aet: str) -> AE:
    """Entity that introduces itself as Vigil.

    Raises
    ------
    ValueError
        If this is no AE title.
    """
    entity = AE(ae_title=aet)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    return entity


def prepare_pynetdicom() -> None:
    """Set pynetdicom's process-wide switches. Called before a socket is opened; again, it changes nothing.

    Its log lines print UIDs and AE titles, so they are off (I9). Received data sets go to a file as they
    come in, so a sender cannot fill the memory (I13), and files go out as they are.
    `ENFORCE_UID_CONFORMANCE` stays off: with it one odd UID would end the association, where the handler
    refuses that one instance. pydicom's warnings quote values and are off too; so are those about sockets
    that pynetdicom drops unclosed where nobody listens, which end with their last reference.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    warnings.filterwarnings("ignore", category=ResourceWarning, module=r"pynetdicom\.")
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.STORE_SEND_CHUNKED_DATASET = True
    logger = logging.getLogger("pynetdicom")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    for uid, keyword in RETIRED_STORAGE.items():
        if uid_to_service_class(uid) is not StorageServiceClass:
            register_uid(uid, keyword, StorageServiceClass)

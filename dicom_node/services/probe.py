"""What a peer really offers, step by step: name, connection, association, services, result classes."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ImplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import build_context
from pynetdicom.sop_class import (
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.contexts import NATIVE
from dicom_node.errors import DeliveryError
from dicom_node.line import line_to
from dicom_node.peers import Confirm, Peer, Role
from dicom_node.services.association import SUCCESS, association
from dicom_node.services.dicomweb import WebPeer

# Classes of the results every study gets.
RESULT_CLASSES: Final[Mapping[str, str]] = {
    "seg": SegmentationStorage,
    "sc": MultiFrameTrueColorSecondaryCaptureImageStorage,
    "sr": Comprehensive3DSRStorage,
}
SERVICES: Final[Mapping[str, str]] = {
    "commitment": StorageCommitmentPushModel,
    "query": StudyRootQueryRetrieveInformationModelFind,
    "worklist": ModalityWorklistInformationFind,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One step of a test.

    Attributes
    ----------
    step : str
    is_ok : bool
    is_needed : bool
        Whether the peer's profile needs it: a peer passes without what it does not need.
    detail : str
        For people; may be empty.
    """

    step: str
    is_ok: bool
    is_needed: bool
    detail: str = ""


def probe(peer: Peer, *, calling_aet: str) -> Iterator[Finding]:
    """Test a peer; stops at the first step without which no other can succeed.

    Parameters
    ----------
    peer : Peer
    calling_aet : str
        Our own AE title.
    """
    host, port = _place(peer)
    if port is None:
        yield Finding(step="port", is_ok=False, is_needed=False, detail="none: it calls us, we never call it")
        return
    for step, finding in (("name", _resolves(host)), ("connection", _connects(host, port, peer))):
        yield Finding(step=step, is_ok=finding is None, is_needed=True, detail=finding or "")
        if finding is not None:
            return
    yield from _web(peer) if peer.protocol == "dicomweb" else _dimse(peer, calling_aet)


def _web(peer: Peer) -> Iterator[Finding]:
    try:
        WebPeer.of(peer).check()
    except DeliveryError as error:
        yield Finding(step="search", is_ok=False, is_needed=True, detail=str(error))
    else:
        yield Finding(step="search", is_ok=True, is_needed=True)


def _dimse(peer: Peer, calling_aet: str) -> Iterator[Finding]:
    is_destination = Role.DESTINATION in peer.roles
    needed = {
        "commitment": is_destination and peer.confirm is Confirm.COMMITMENT,
        "query": Role.ARCHIVE in peer.roles or (is_destination and peer.confirm is Confirm.QUERY),
        "worklist": Role.WORKLIST in peer.roles,
    }
    contexts = [
        build_context(uid, list(NATIVE))
        for uid in (Verification, *RESULT_CLASSES.values(), *SERVICES.values())
    ]
    try:
        with association(line_to(peer, calling_aet=calling_aet), contexts) as opened:
            status = opened.send_c_echo().get("Status")
            accepted = {
                str(context.abstract_syntax): str(context.transfer_syntax[0])
                for context in opened.accepted_contexts
            }
    except (DeliveryError, ValueError) as error:  # ValueError: no context for the echo
        yield Finding(step="association", is_ok=False, is_needed=True, detail=str(error))
        return
    yield Finding(step="association", is_ok=True, is_needed=True)
    yield Finding(step="echo", is_ok=status == SUCCESS, is_needed=True)
    for kind, uid in RESULT_CLASSES.items():
        detail = "implicit VR" if accepted.get(uid) == ImplicitVRLittleEndian else ""
        yield Finding(
            step=f"result {kind}",
            is_ok=uid in accepted,
            is_needed=is_destination and peer.wants(kind),
            detail=detail,
        )
    for service, uid in SERVICES.items():
        yield Finding(step=service, is_ok=uid in accepted, is_needed=needed[service])


def _place(peer: Peer) -> tuple[str, int | None]:
    if peer.protocol != "dicomweb" or peer.url is None:
        return peer.host, peer.port
    parts = urlsplit(peer.url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _resolves(host: str) -> str | None:
    """Why a name does not resolve; None where it does."""
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return str(error.strerror)
    return None


def _connects(host: str, port: int, peer: Peer) -> str | None:
    try:
        socket.create_connection((host, port), timeout=peer.timeouts.connect_s).close()
    except OSError as error:
        return str(error.strerror or error)
    return None

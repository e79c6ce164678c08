"""One peer and its profile: who it is, how it is reached, what it is sent and what it is asked."""

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dicom_node.address import Url, checked_host

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\x20-\x5b\x5d-\x7e]{0,16}$")
]  # PS3.5 table 6.2-1: no backslash, no control characters
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9.]{1,64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)]


class Role(StrEnum):
    """What a peer does."""

    SENDER = "sender"  # may open associations to us
    DESTINATION = "destination"  # is sent every result
    ARCHIVE = "archive"  # is asked what it holds of a study, and studies are pulled from it
    WORKLIST = "worklist"  # is asked for the order behind an accession number


class Confirm(StrEnum):
    """How a destination's success is turned into *stored*."""

    COMMITMENT = "commitment"  # storage commitment; where it is not offered or not answered, by query
    QUERY = "query"  # the destination is asked whether it holds the object
    NONE = "none"  # its answer to the object is all there is


class Pull(StrEnum):
    """How a study is fetched from an archive; DICOMweb has one way alone."""

    GET = "get"  # by C-GET into the spool
    MOVE = "move"  # by C-MOVE: the archive sends it to our AE title, which it must know


class Profile(BaseModel):
    """A part of the peers file; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Timeouts(Profile):
    """How long a peer is waited for, in seconds.

    Attributes
    ----------
    connect_s : float
        TCP connection.
    association_s : float
        Its answer to an association request.
    answer_s : float
        Its answer to one message: an archive may write to slow disks first.
    commitment_s : float
        Its report on a storage commitment request; then it is asked by query.
    """

    connect_s: Seconds = 10.0
    association_s: Seconds = 30.0
    answer_s: Seconds = 60.0
    commitment_s: Seconds = 3600.0


class AllowedContext(Profile):
    """A SOP class a sender may propose.

    Attributes
    ----------
    sop_class : str
        UID.
    syntaxes : tuple of str
        Transfer syntax UIDs; empty: every one the node takes.
    """

    sop_class: Uid
    syntaxes: tuple[Uid, ...] = ()


class Certificate(Profile):
    """How a peer proves over TLS who it is, and how we prove it to the peer.

    Attributes
    ----------
    sha256 : str, optional
        Fingerprint of its certificate, 64 hexadecimal digits; colons are allowed. No other is taken.
    ca : Path, optional
        PEM file of the authority that signs it, for calls.
    own : Path, optional
        PEM file of our certificate and key. Set: the peer is called over TLS.
    """

    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")] | None = None
    ca: Path | None = None
    own: Path | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.own is None) != (self.ca is None):
            raise ValueError("calls over TLS need both own and ca")
        return self


class Peer(Profile):
    """One system on the other end of an association or of DICOMweb.

    Attributes
    ----------
    name : str
        What people call it; appears in the worklist, in metrics and in the audit trail.
    roles : frozenset of Role
    protocol : str
        How it is reached: a key of `dicom_node.delivery.DESTINATIONS`.
    aet : str
        AE title, up to 16 characters. A peer that speaks DICOMweb alone has none.
    host : str
        Address, network or host name.
    port : int, optional
        Needed by whoever we call.
    quiet_s : float, optional
        Seconds without an instance after which this sender's study is complete.
    url : str, optional
        Base address of its DICOMweb services.
    authorization : Path, optional
        File whose one line is the value of the HTTP header *Authorization*, such as ``Bearer ...``.
    confirm : Confirm
        What turns *delivered* into *stored*.
    pull : Pull, optional
        Set: a study of which it sends an Instance Availability Notification is fetched from it.
    results : frozenset of str, optional
        Kinds of results it is sent; unset: all.
    contexts : tuple of AllowedContext
        What it may send; empty: every storage class.
    max_associations : int, optional
        Associations it may hold at once from one address.
    timeouts : Timeouts
    certificate : Certificate, optional
    """

    name: Name
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    protocol: Literal["dimse", "dicomweb"] = "dimse"
    aet: Annotated[AeTitle, Field(validate_default=True)] = ""
    host: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=253), Field(validate_default=True)
    ] = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    quiet_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    url: Url | None = None
    authorization: Path | None = None
    confirm: Confirm = Confirm.NONE
    pull: Pull | None = None
    results: frozenset[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,15}$")]] | None = None
    contexts: tuple[AllowedContext, ...] = ()
    max_associations: Annotated[int, Field(ge=1)] | None = None
    timeouts: Timeouts = Timeouts()
    certificate: Certificate | None = None

    @field_validator("aet", "host")
    @classmethod
    def _is_needed_by_dimse(cls, value: str, info: ValidationInfo) -> str:
        is_web = info.data.get("protocol") == "dicomweb"
        if not value and (not is_web or Role.SENDER in info.data.get("roles", ())):
            raise ValueError("needed by whoever speaks DICOM to us")
        return value

    @field_validator("host")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        return checked_host(value) if value else value

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        is_web = self.protocol == "dicomweb"
        called = self.roles - {Role.SENDER}
        if is_web and self.url is None:
            raise ValueError("a peer that speaks DICOMweb needs a url")
        if is_web and self.confirm is Confirm.COMMITMENT:
            raise ValueError("DICOMweb has no storage commitment; confirm by query")
        if self.pull is not None and Role.ARCHIVE not in self.roles:
            raise ValueError("studies are pulled from a peer with the role archive alone")
        if Role.WORKLIST in self.roles and is_web:
            raise ValueError("a worklist is asked by dimse")
        if called and not is_web:
            role = min(called)
            if self.port is None:
                raise ValueError(f"a peer with the role {role} needs a port")
            if "/" in self.host:
                raise ValueError(f"a peer with the role {role} needs one host, not a network")
        return self

    def wants(self, kind: str) -> bool:
        """Whether this destination is sent results of a kind."""
        return self.results is None or kind in self.results


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

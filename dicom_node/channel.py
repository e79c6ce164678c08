"""Channels of the peers file: where Vigil tells of what happened to a study, besides DICOM.

``peers.yaml``, beside its ``peers``::

    channels:
      - {name: board, protocol: webhook, url: "https://board.example.org/in", secrets: [/etc/vigil/hook]}

An address stands here and nowhere else: nothing that is received can make Vigil call anybody.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from dicom_node.address import Url, checked_host
from dicom_node.peer import Certificate, Name, Profile, Timeouts, is_loopback

Hd = Annotated[str, StringConstraints(strip_whitespace=True, max_length=180)]  # name of a system in MSH


class Event(StrEnum):
    """What is told."""

    SCORED = "study.scored"
    NOT_ASSESSABLE = "study.not_assessable"
    FAILED = "study.failed"
    SUPERSEDED = "study.superseded"  # images came after it ended: what was told holds no longer
    DELIVERED = "result.delivered"
    DRIFTED = "scanner.drifted"  # its images have changed: its studies have no percentile any more


OF_STUDIES = frozenset(Event) - {Event.DELIVERED, Event.DRIFTED}


class _Channel(Profile):
    """What every channel has.

    Attributes
    ----------
    name : str
        What people call it; no peer has the same.
    timeouts : Timeouts
        `connect_s` and `answer_s` count.
    certificate : Certificate, optional
    """

    name: Name
    timeouts: Timeouts = Timeouts()
    certificate: Certificate | None = None
    events: frozenset[Event] = frozenset()

    @property
    def told(self) -> frozenset[Event]:
        """What the channel is told."""
        return self.events


class WebChannel(_Channel):
    """A channel over HTTP: encrypted, unless it stays on this machine."""

    url: Url

    @field_validator("url")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        return encrypted(value)


class WebhookChannel(WebChannel):
    """Signed JSON by POST (Standard Webhooks 1.0). It holds nothing of who the patient is.

    Attributes
    ----------
    secrets : tuple of Path
        Files of one secret each, newest first: ``whsec_`` and base64. Every one of them signs, so that a
        receiver may change from one to the next.
    events : frozenset of Event
    """

    protocol: Literal["webhook"]
    secrets: Annotated[tuple[Path, ...], Field(min_length=1, max_length=4)]
    events: frozenset[Event] = frozenset(Event)


class OAuth(Profile):
    """How a token is had (RFC 6749, client credentials).

    Attributes
    ----------
    token_url : str
    client_id : str
    client_secret : Path
        File whose one line is the secret.
    scope : str
        Empty: the server's own.
    """

    token_url: Url
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    client_secret: Path
    scope: Annotated[str, StringConstraints(max_length=500)] = ""

    @field_validator("token_url")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        return encrypted(value)


class FhirChannel(WebChannel):
    """A FHIR R4 server that takes transactions at its base address.

    Attributes
    ----------
    authorization : Path, optional
        File whose one line is the value of the HTTP header *Authorization*.
    oauth : OAuth, optional
        Instead of it.
    events : frozenset of Event
    """

    protocol: Literal["fhir"]
    authorization: Path | None = None
    oauth: OAuth | None = None
    events: frozenset[Event] = OF_STUDIES

    @model_validator(mode="after")
    def _is_let_in_one_way(self) -> Self:
        if self.authorization is not None and self.oauth is not None:
            raise ValueError("takes authorization or oauth, not both")
        if untold := self.events - OF_STUDIES:
            raise ValueError(f"FHIR has no resource for {', '.join(sorted(untold))}")
        return self


class Hl7Role(StrEnum):
    """What a system that speaks HL7 v2 does."""

    RESULTS = "results"  # is sent what was found
    ORDERS = "orders"  # may tell us how urgent a study is


class Hl7Channel(_Channel):
    """HL7 v2.5.1 over MLLP.

    Attributes
    ----------
    roles : frozenset of Hl7Role
    host : str
        Address or host name; for a system that only sends orders also a network.
    port : int, optional
        Needed by whoever is sent results.
    events : frozenset of Event
    facility, receiving_application, receiving_facility : str
        MSH-4, MSH-5 and MSH-6.
    accession_field : int
        Field of OBR that takes the accession number: 2, 3, 18 or 19.
    """

    protocol: Literal["hl7"]
    roles: Annotated[frozenset[Hl7Role], Field(min_length=1)] = frozenset({Hl7Role.RESULTS})
    host: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=253),
        AfterValidator(checked_host),
    ]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    events: frozenset[Event] = OF_STUDIES
    facility: Hd = ""
    receiving_application: Hd = ""
    receiving_facility: Hd = ""
    accession_field: Literal[2, 3, 18, 19] = 18

    @property
    def told(self) -> frozenset[Event]:
        """What the channel is told: nothing where it only sends orders."""
        return self.events if Hl7Role.RESULTS in self.roles else frozenset()

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if untold := self.events - OF_STUDIES:
            raise ValueError(f"HL7 has no message for {', '.join(sorted(untold))}")
        if Hl7Role.RESULTS in self.roles and (self.port is None or "/" in self.host):
            raise ValueError("a channel that is sent results needs one host and a port")
        return self


Channel = Annotated[WebhookChannel | FhirChannel | Hl7Channel, Field(discriminator="protocol")]


def encrypted(url: str) -> str:
    """Return an address that is encrypted, or that only this machine reaches; else raise ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("needs https; plain http goes to this machine alone")
    return url

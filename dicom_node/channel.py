"""Channels of the peers file: where Vigil tells of what happened to a study, besides DICOM.

``peers.yaml``, beside its ``peers``::

    channels:
      - {name: board, protocol: webhook, url: "https://board.example.org/in", secrets: [/etc/vigil/hook]}

An address stands here and nowhere else: nothing that is received can make Vigil call anybody.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator

from dicom_node.peer import Certificate, Name, Profile, Timeouts, is_loopback

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#@]{1,500}$")]


class Event(StrEnum):
    """What is told."""

    SCORED = "study.scored"
    NOT_ASSESSABLE = "study.not_assessable"
    FAILED = "study.failed"
    SUPERSEDED = "study.superseded"  # images came after it ended: what was told holds no longer
    DELIVERED = "result.delivered"


OF_STUDIES = frozenset(Event) - {Event.DELIVERED}


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


Channel = WebhookChannel


def encrypted(url: str) -> str:
    """Return an address that is encrypted, or that only this machine reaches; else raise ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("needs https; plain http goes to this machine alone")
    return url

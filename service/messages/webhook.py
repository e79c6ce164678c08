"""Signed webhooks by the Standard Webhooks specification 1.0 (standardwebhooks.com).

The body holds a study's pseudonymous key and what was found, or what became of a scanner, and nothing of who
the patient is. The signature covers id, time and body, so that neither can be changed nor an old one be sent
again later.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from dicom_node.calls import Site, http_error
from dicom_node.channel import Event, WebhookChannel
from dicom_node.errors import DestinationBusyError
from service.messages.message import Message
from service.store.reports import DriftAlarm, Told
from service.study import DISCLAIMER

SECRET_PREFIX = "whsec_"  # noqa: S105 - says what the file holds
SHORTEST_SECRET, LONGEST_SECRET = 24, 64  # bytes, by the specification


class Webhook:
    """One receiver of webhooks.

    Parameters
    ----------
    channel : WebhookChannel
    """

    names_patient = False

    def __init__(self, channel: WebhookChannel) -> None:
        self._channel = channel
        self._site = Site(url=channel.url, timeouts=channel.timeouts, certificate=channel.certificate)

    def send(self, message: Message) -> str:
        """Post one message; return the HTTP status.

        Raises
        ------
        DestinationBusyError
            If it may be taken later, or a secret cannot be read.
        DestinationRefusedError
            If it will not be taken; a redirect is a refusal, for nobody but the peers file says where to.
        """
        body = json.dumps(body_of(message), separators=(",", ":"), ensure_ascii=False).encode()
        at = int(time.time())
        secrets = [read_secret(path) for path in self._channel.secrets]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Vigil",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(at),
            "webhook-signature": sign(secrets, message.message_id, at, body),
        }
        with self._site.call("POST", "", headers=headers, content=body) as answer:
            if not httpx.codes.is_success(answer.status_code):
                raise http_error(answer.status_code)
            return str(answer.status_code)


def sign(secrets: Sequence[bytes], message_id: str, at: int, body: bytes) -> str:
    """Value of the signature header: one HMAC-SHA256 of ``id.time.body`` for every secret."""
    content = f"{message_id}.{at}.".encode() + body
    signatures = (hmac.new(secret, content, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures)


def read_secret(path: Path) -> bytes:
    """Return the secret of a file, read anew for each message so that it may be changed.

    Raises
    ------
    DestinationBusyError
        If there is none: a person mends the file, and the message waits.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (OSError, UnicodeError, binascii.Error) as error:
        raise DestinationBusyError(
            f"A secret's file cannot be used ({type(error).__name__}): whsec_ and base64."
        ) from None
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        raise DestinationBusyError(
            f"A secret has {len(secret)} bytes; it needs {SHORTEST_SECRET} to {LONGEST_SECRET}."
        )
    return secret


def body_of(message: Message) -> dict[str, Any]:
    """JSON of a message; a number comes with everything needed to read it, or not at all (I7, I10)."""
    told = message.told
    data = _of_scanner(told, message.sequence) if isinstance(told, DriftAlarm) else _of_study(message)
    return {"type": message.event.value, "timestamp": told.happened_at.isoformat(), "data": data}


def _of_scanner(alarm: DriftAlarm, sequence: int) -> dict[str, Any]:
    return {
        "scanner": alarm.group,
        "path": "/scanners",
        "sequence": sequence,
        "moved": list(alarm.alarms),
        "studies": alarm.studies,
        "studies_since_change": alarm.studies_since_change,
        "model_sha256": alarm.model_sha256,
        "calibration_sha256": alarm.calibration_sha256,
        "disclaimer": DISCLAIMER,
    }


def _of_study(message: Message) -> dict[str, Any]:
    report = message.report
    data: dict[str, Any] = {
        "study": report.study_key,
        "path": f"/studies/{report.study_key}",
        "revision": report.revision,
        "sequence": message.sequence,
        "state": report.state.value,
        "reason": report.reason,
        "flag": report.flag,
        "holds": report.is_current and message.event is not Event.SUPERSEDED,
        "priority": report.priority,
        "modality": report.modality,
        "assessment": None,
        "disclaimer": DISCLAIMER,
    }
    found = report.assessment
    # A result may reach its destination after more images came: the number holds no longer then (I7).
    if found is not None and data["holds"]:
        data["assessment"] = {
            "percentile": found.percentile,
            "p_value": found.p_value,
            "reference_group": found.reference_group,
            "reference_n": found.reference_n,
            "calibration_sha256": found.calibration_sha256,
            "model": {
                "name": found.model.name,
                "version": found.model.version,
                "sha256": found.model.sha256,
            },
            "run_at": found.run_at.isoformat(),
        }
    told = message.told
    if isinstance(told, Told) and told.kind is not None:
        data["result"] = {"kind": told.kind, "destination": told.destination}
    return data

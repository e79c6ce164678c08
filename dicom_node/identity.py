"""Pseudonyms, file names and UIDs that reveal nothing, and how Vigil knows its own results again."""

import base64
import hashlib
import hmac
import os
import re
import secrets
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.durable import sync_folder
from dicom_node.errors import SecretError

MANUFACTURER = "Vigil"
MODEL_NAME = "Vigil Triage"
CODING_SCHEME = "99VIGIL"

KEY_LENGTH = 20  # base32 characters: 100 bits
SECRET_BYTES = 32
SHORTEST_SECRET = 16  # bytes; less could be searched for the UIDs behind the keys
UID = re.compile(r"[0-9.]{1,64}")  # nothing else may come near a path (PS3.5 section 9)
STUDY_KEY = re.compile(rf"[a-z2-7]{{{KEY_LENGTH}}}")

_NAMESPACE = uuid.UUID("6f0f6a0e-5d52-5f0c-9b57-0d2b5b1f7e61")  # ours alone; changing it changes every UID
_SEPARATOR = "\x1f"  # the unit separator occurs in no part, so no two lists of parts read the same


@lru_cache(maxsize=256)  # every instance of a study asks again
def study_key(secret: bytes, study_uid: str) -> str:
    """Pseudonym of a study: 20 lower-case base32 characters of HMAC-SHA256.

    Parameters
    ----------
    secret : bytes
        The site's secret.
    study_uid : str
    """
    digest = hmac.new(secret, study_uid.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:KEY_LENGTH]


def series_key(series_uid: str) -> str:
    """Pseudonym of a series within its study: 12 lower-case base32 characters of SHA-256."""
    digest = hashlib.sha256(b"series" + _SEPARATOR.encode() + series_uid.encode()).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:12]


def instance_file_name(sop_uid: str) -> str:
    """File name of an instance in the spool: half a SHA-256, so a UID never becomes a path."""
    return hashlib.sha256(sop_uid.encode()).hexdigest()[:32] + ".dcm"


def load_or_make_secret(path: Path) -> bytes:
    """Secret of the site; made on first use, readable by its owner alone.

    Processes that start at the same moment agree on one secret: the first to link its file wins.

    Raises
    ------
    SecretError
        If the file is there but too short to be a secret.
    OSError
        If the folder cannot be read or written.
    """
    if not path.exists():
        _make_secret(path)
    secret = path.read_bytes().strip()
    if len(secret) < SHORTEST_SECRET:
        raise SecretError(
            f"The site secret {path.name} holds {len(secret)} bytes; it needs {SHORTEST_SECRET} or more. "
            "Restore it from the backup: study keys depend on it."
        )
    return secret


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_folder(path.parent)


def derive_uid(kind: str, *parts: str) -> str:
    """UID that is a pure function of its parts: ``2.25.`` and a version 5 UUID (PS3.5 B.2).

    Parameters
    ----------
    kind : str
        What the UID is for; one kind never meets another's UIDs.
    *parts : str
        Everything the object depends on.
    """
    content = hashlib.sha256(_SEPARATOR.join((kind, *parts)).encode()).hexdigest()
    return f"2.25.{uuid.uuid5(_NAMESPACE, content).int}"


def result_series_uid(sop_instance_uid: str) -> str:
    """Series Instance UID of a result: each has a series of its own, derived from its own UID."""
    return derive_uid("result-series", sop_instance_uid)


def device_uid(model_hash: str) -> str:
    """Device UID of a model, as results name it in their contributing equipment."""
    return derive_uid("device", CODING_SCHEME, model_hash)


IMPLEMENTATION_CLASS_UID = derive_uid("implementation-class")
IMPLEMENTATION_VERSION = "VIGIL"


def is_uid(value: str) -> bool:
    """Whether a value has no character but digits and dots, 1 to 64 of them."""
    return UID.fullmatch(value) is not None


def is_own(dataset: Dataset) -> bool:
    """Whether an object is one of Vigil's results, come back from an archive (I8).

    An archive may coerce the patient and rewrite texts. Any one of what it leaves alone is enough: equipment,
    coding schemes, or the pair of UIDs, of which one follows from the other.
    """
    return is_own_mark(
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        manufacturer=_text(dataset, "Manufacturer"),
        model_name=_text(dataset, "ManufacturerModelName"),
        schemes=tuple(
            _text(item, "CodingSchemeDesignator")
            for item in _items(dataset, "CodingSchemeIdentificationSequence")
        ),
    )


def is_own_mark(
    *,
    manufacturer: str,
    model_name: str,
    schemes: tuple[str, ...],
    sop_instance_uid: str = "",
    series_uid: str = "",
) -> bool:
    """Whether equipment, coding schemes or UIDs are Vigil's."""
    return (
        (manufacturer, model_name) == (MANUFACTURER, MODEL_NAME)
        or CODING_SCHEME in schemes
        or (bool(sop_instance_uid) and series_uid == result_series_uid(sop_instance_uid))
    )


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _items(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    return tuple(dataset.get(keyword) or ())

"""What peers tell about a study besides its images, kept on disk for the intake.

::

    <root>/studies/<study key>/<kind>-<hash>.json   one message each
    <root>/steps/<hash>.json                        performed procedure steps by their own UID
    <root>/open/<token>                             one for each open association, locked while it lives

Nothing here holds a name, an id or, in a file's name, a UID. The receiver writes and needs no database (I6);
everything can be lost without losing an image: then a study completes by its quiet period.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

from dicom_node.durable import write_durably
from dicom_node.identity import STUDY_KEY

MOST_OF_A_STUDY = 200  # messages; more say nothing new
LONGEST_MESSAGE = 8 * 1024 * 1024  # bytes of one file
KEPT_S = 30 * 86_400.0
_NAME = re.compile(r"[a-z_]+-[0-9a-f]{32}\.json")


class SignalKind(StrEnum):
    """What a message is."""

    PERFORMED_STEP = "mpps"
    AVAILABILITY = "availability"
    COMMITMENT_REQUEST = "commitment_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One message about a study.

    Attributes
    ----------
    kind : SignalKind
    is_final : bool
        The modality has ended the step; all that was announced is available.
    instances : frozenset of str
        File names, as `instance_file_name` makes them, of the instances it lists; empty: it lists none.
    """

    kind: SignalKind
    is_final: bool
    instances: frozenset[str]


class Signals:
    """The messages of one data folder.

    Parameters
    ----------
    root : Path
        Made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[int, tuple[int, Path]] = {}
        self._lock = Lock()

    def put(self, study_key: str, uid: str, signal: Signal) -> None:
        """Keep a message, durable. A later one under the same UID takes its place.

        Raises
        ------
        ValueError
            If this is no study key.
        OSError
            If the disk does not take it.
        """
        if not STUDY_KEY.fullmatch(study_key):
            raise ValueError("not a study key")
        path = self._studies / study_key / f"{signal.kind.value}-{_hash(uid)}.json"
        if not path.exists() and len(self._names(study_key)) >= MOST_OF_A_STUDY:
            return
        content = {"is_final": signal.is_final, "instances": sorted(signal.instances)}
        write_durably(path, json.dumps(content).encode())

    def of(self, study_key: str) -> tuple[Signal, ...]:
        """Messages about a study; what cannot be read is as if it had not come."""
        found = []
        for name in self._names(study_key):
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = _load(self._studies / study_key / name)
                found.append(
                    Signal(
                        kind=SignalKind(name.partition("-")[0]),
                        is_final=bool(content["is_final"]),
                        instances=frozenset(content["instances"]),
                    )
                )
        return tuple(found)

    def put_step(self, uid: str, content: dict[str, Any]) -> None:
        """Keep the state of a performed procedure step, durable."""
        write_durably(self._root / "steps" / f"{_hash(uid)}.json", json.dumps(content).encode())

    def step(self, uid: str) -> dict[str, Any] | None:
        """State of a performed procedure step; None where it was never created."""
        try:
            return _load(self._root / "steps" / f"{_hash(uid)}.json")
        except FileNotFoundError:
            return None

    def association_opened(self, token: int, sender: str) -> None:
        """Say that a sender has an association open; the process's death says the contrary."""
        folder = self._root / "open"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / secrets.token_hex(16)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # whoever looks whether it is locked holds it for a moment
            os.write(descriptor, sender.encode())
        except OSError:  # a full disk takes the name and not the content
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._open[token] = (descriptor, path)

    def association_closed(self, token: int) -> None:
        """Take it back; harmless where it was never said."""
        with self._lock:
            descriptor, path = self._open.pop(token, (-1, Path()))
        if descriptor >= 0:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def open_senders(self) -> frozenset[str]:
        """AE titles that have an association open now; what a killed process left is removed."""
        found = set()
        folder = self._root / "open"
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with suppress(FileNotFoundError), path.open("rb+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.add(file.read(64).decode("ascii", "replace").strip())
                else:
                    _remove_if_old(path)
        return frozenset(found)

    def sweep(self, *, older_than_s: float = KEPT_S) -> int:
        """Remove messages that concern nobody any more; return how many."""
        removed = 0
        for path in [*self._root.glob("studies/*/*"), *self._root.glob("steps/*")]:
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than_s:
                    path.unlink()
                    removed += 1
        for folder in self._root.glob("studies/*"):
            with suppress(OSError):  # not empty
                folder.rmdir()
        return removed

    @property
    def _studies(self) -> Path:
        return self._root / "studies"

    def _names(self, study_key: str) -> list[str]:
        try:
            found = [path.name for path in (self._studies / study_key).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if _NAME.fullmatch(name))


def missing(signals: Iterable[Signal], present: frozenset[str]) -> int:
    """How many announced instances are not there yet."""
    announced = frozenset().union(*(signal.instances for signal in signals))
    return len(announced - present)


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _load(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = json.loads(file.read(LONGEST_MESSAGE))
    if not isinstance(content, dict):
        raise TypeError("not an object")
    return content


def _remove_if_old(path: Path) -> None:
    """Remove a file whose owner is gone; one of this second may be about to be locked."""
    if time.time() - path.stat().st_mtime > 1.0:
        path.unlink(missing_ok=True)

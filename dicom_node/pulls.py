"""Studies that are to be fetched from an archive, kept on disk from whoever hears of them to whoever fetches.

One small file each; its name holds no UID. The receiver writes it and needs nothing but its disk.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable import write_durably
from dicom_node.identity import is_uid

MOST = 10_000  # that wait; more are not kept, and complete by what comes by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One study to fetch.

    Attributes
    ----------
    path : Path
        Where it is kept.
    study_uid : str
    peer : str
        Name of the archive.
    asked_at : float
        Seconds since the epoch.
    """

    path: Path
    study_uid: str
    peer: str
    asked_at: float


@dataclass(frozen=True, slots=True)
class Pulls:
    """The studies of one data folder that wait to be fetched.

    Attributes
    ----------
    folder : Path
        Made when it is first needed.
    """

    folder: Path

    def ask(self, study_uid: str, peer: str) -> None:
        """Keep a wish, durable; again, only its time changes.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        name = hashlib.sha256(f"{peer} {study_uid}".encode()).hexdigest()[:32]
        path = self.folder / f"{name}.json"
        if not path.exists() and len(self._paths()) >= MOST:
            return
        write_durably(path, json.dumps({"study": study_uid, "peer": peer, "at": time.time()}).encode())

    def waiting(self) -> list[Wanted]:
        """Wishes, the oldest first; what cannot be read is as if nobody had asked."""
        found = []
        for path in self._paths():
            try:
                content = json.loads(path.read_bytes())
                study, peer, at = str(content["study"]), str(content["peer"]), float(content["at"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if is_uid(study):
                found.append(Wanted(path=path, study_uid=study, peer=peer, asked_at=at))
        return sorted(found, key=lambda wanted: wanted.asked_at)

    def done(self, wanted: Wanted) -> None:
        """Forget a wish."""
        wanted.path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []

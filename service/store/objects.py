"""Result objects on disk: ``results/<study key>/<sha256>.dcm``, durable before their rows are."""

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable import sync_folder
from dicom_node.results import BuiltResult, encode
from service.store.jobs import StoredResult


@dataclass(frozen=True, slots=True)
class ResultFolder:
    """Folder of all result objects.

    Attributes
    ----------
    root : Path
    """

    root: Path

    def keep(self, study_key: str, built: Sequence[BuiltResult]) -> tuple[StoredResult, ...]:
        """Write objects so that they survive power loss; writing the same object again changes nothing."""
        folder = self.root / study_key
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stored = []
        for result in built:
            content = encode(result.dataset)
            sha256 = hashlib.sha256(content).hexdigest()
            path = folder / f"{sha256[:32]}.dcm"
            _write_durably(path, content)
            stored.append(
                StoredResult(
                    kind=result.kind,
                    sop_class_uid=str(result.dataset.SOPClassUID),
                    sop_instance_uid=str(result.dataset.SOPInstanceUID),
                    path=str(path.relative_to(self.root)),
                    sha256=sha256,
                    bytes=len(content),
                )
            )
        sync_folder(folder)
        sync_folder(self.root)
        return tuple(stored)


def _write_durably(path: Path, content: bytes) -> None:
    draft = path.with_suffix(f".{secrets.token_hex(8)}.part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)

"""What is shipped: artefacts, of which one serves unless a site has its own, and records of methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.artefact import MANIFEST, Artefact, PictureArtefact, load_artefact
from models.errors import ArtefactError

SHIPPED = Path(__file__).resolve().parent / "artefacts"
RECORDS = Path(__file__).resolve().parent / "records"
VOLUMES = "volumes"  # Family of records of models of whole volumes, which name none.


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSummary:
    """What a method record says of itself. The record in full is read where models are made.

    Attributes
    ----------
    id : str
        What ``vigil models train`` takes.
    title, family : str
    covers : tuple of str
        Rows of the inventory of methods that it stands for.
    """

    id: str
    title: str
    family: str
    covers: tuple[str, ...]


def list_records() -> tuple[RecordSummary, ...]:
    """Every shipped record, sorted by id."""
    return tuple(_summary(path) for path in sorted(RECORDS.glob("*.yaml")))


def _summary(path: Path) -> RecordSummary:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return RecordSummary(
        id=path.stem,
        title=content["title"],
        family=content.get("family", "beyond" if "members" in content else VOLUMES),
        covers=tuple(content.get("covers", ())),
    )


def list_artefacts(folder: Path | None = None) -> tuple[Path, ...]:
    """Folders below ``folder`` (default: the shipped ones) that hold a manifest, sorted by name."""
    root = SHIPPED if folder is None else folder
    return tuple(sorted(path.parent for path in root.glob(f"*/{MANIFEST}")))


def active_artefact(folder: Path | None = None) -> Artefact | PictureArtefact:
    """The verified artefact that serves.

    Parameters
    ----------
    folder : Path, optional
        An artefact, or a folder that holds exactly one; default: the shipped one.

    Raises
    ------
    ArtefactError
        If there is none, there are several, or a file is missing or changed.
    """
    root = SHIPPED if folder is None else folder
    if (root / MANIFEST).is_file():
        return load_artefact(root)
    found = list_artefacts(root)
    if not found:
        raise ArtefactError(
            root / MANIFEST, "is missing: no model here; restore it or run `vigil models train`"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ArtefactError(root / MANIFEST, f"stands for several models ({names}); name the one that serves")
    return load_artefact(found[0])

"""Which artefact serves: the shipped one, or the one a site put in its own folder."""

from pathlib import Path

from models.artefact import MANIFEST, Artefact, PictureArtefact, load_artefact
from models.errors import ArtefactError

SHIPPED = Path(__file__).resolve().parent / "artefacts"


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

"""Which model only watches: it scores what the model in service has scored, and sends nothing."""

from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from models.artefact import Artefact, PictureArtefact
from service.errors import SettingsError
from service.pointers import Named, remove_pointer, write_pointer

POINTER = "shadow.json"  # in the data folder, which all roles share


class Shadowed(Named):
    """Content of ``DATA/shadow.json``.

    Attributes
    ----------
    since : datetime
        It watches studies that ended from then on, and those it was told to catch up with.
    """

    since: AwareDatetime


def set_shadow(data: Path, artefact: Artefact | PictureArtefact, *, since: datetime) -> None:
    """Name the artefact that watches from now on."""
    content = Shadowed(path=artefact.path.resolve(), sha256=artefact.sha256, since=since)
    write_pointer(data, POINTER, content)


def clear_shadow(data: Path) -> None:
    """Let nothing watch any more."""
    remove_pointer(data, POINTER)


def shadow_of(data: Path) -> Shadowed | None:
    """Which model watches; None where none does.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    """
    try:
        return Shadowed.model_validate_json((data / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{POINTER} in the data folder is damaged. Run `vigil models shadow`, or remove the file."
        ) from error


def is_shadowed(data: Path) -> bool:
    """Whether a model watches, as far as can be told."""
    try:
        return shadow_of(data) is not None
    except SettingsError:
        return False

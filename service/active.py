"""Which model is to serve: a setting, or what a person activated. Followed while a process runs."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import ValidationError

from models.artefact import CALIBRATION, MANIFEST, Artefact, PictureArtefact, load_artefact
from models.calibration import identify, read_calibration
from models.catalogue import active_artefact
from models.errors import ModelError
from models.scores import ModelIdentity
from service.errors import SettingsError
from service.pointers import Named, write_pointer

POINTER = "model.json"  # in the data folder, which all roles share
MOST_BEFORE = 10  # models remembered

log = structlog.get_logger(__name__)


class Activated(Named):
    """Content of ``DATA/model.json``.

    Attributes
    ----------
    before : tuple of Named
        What served before it, newest first: the way back.
    """

    before: tuple[Named, ...] = ()


def activate(data: Path, artefact: Artefact | PictureArtefact, *, before: tuple[Named, ...] = ()) -> None:
    """Name the artefact that serves from now on; survives a power cut whole or not at all.

    Parameters
    ----------
    data : Path
        The data folder.
    artefact : Artefact or PictureArtefact
    before : tuple of Named
        What served before, newest first.
    """
    content = Activated(path=artefact.path.resolve(), sha256=artefact.sha256, before=before[:MOST_BEFORE])
    write_pointer(data, POINTER, content)


@dataclass(slots=True, kw_only=True)
class ActiveModel:
    """The model that is to serve.

    Attributes
    ----------
    data : Path
        Data folder, in which a person's choice stands.
    chosen : Path, optional
        Artefact folder of the settings, which wins.
    """

    data: Path
    chosen: Path | None = None
    _seen: str | None = None
    _identity: ModelIdentity | None = field(default=None)
    _reference: tuple[float, ...] = ()

    def mark(self) -> str:
        """A text that changes when another model is to serve, or the folder of this one changed."""
        found = hashlib.sha256()
        for path in (self.data / POINTER, (self.folder() or Path()) / MANIFEST):
            try:
                found.update(path.read_bytes())
            except OSError:
                found.update(b"missing")
        return found.hexdigest()

    def artefact(self) -> Artefact | PictureArtefact:
        """The model to score with, every file verified.

        Raises
        ------
        ArtefactError
            If a file of it is missing or changed.
        SettingsError
            If the choice cannot be read.
        """
        if self.chosen is not None:
            return load_artefact(self.chosen)
        activated = self._activated()
        if activated is None:
            return active_artefact()
        return activated.load()

    def remembered(self) -> tuple[Named, ...]:
        """What served before who serves, newest first.

        Raises
        ------
        SettingsError
            If the choice cannot be read.
        """
        activated = self._activated()
        return activated.before if activated else ()

    def before(self, artefact: Artefact | PictureArtefact) -> tuple[Named, ...]:
        """What is remembered when this artefact takes the place of who serves, newest first.

        A choice that cannot be read is not remembered: another choice is how it is mended.
        """
        try:
            activated = self._activated()
        except SettingsError:
            return ()
        if activated is None:
            try:
                shipped = active_artefact()
            except ModelError:
                return ()
            activated = Activated(path=shipped.path.resolve(), sha256=shipped.sha256)
        if activated.sha256 == artefact.sha256:
            return activated.before
        return (Named(path=activated.path, sha256=activated.sha256), *activated.before)

    def identity(self) -> ModelIdentity:
        """Who serves, without its network; the one before while a new one cannot be read.

        Raises
        ------
        ModelError, SettingsError
            If there never was one that can be read.
        """
        mark = self.mark()
        if mark != self._seen:
            try:
                artefact = self.artefact()
                calibration = read_calibration(artefact.path / CALIBRATION)
                self._identity = identify(artefact, calibration)
                self._reference = calibration.scores
            except (ModelError, SettingsError):
                if self._identity is None:
                    raise
                log.exception("new model cannot be read: the one before goes on")
            self._seen = mark
        if self._identity is None:
            raise SettingsError(f"{POINTER} names no model. Run `vigil models activate`.")
        return self._identity

    def reference(self) -> tuple[float, ...]:
        """Raw scores of the reference group of who serves, ascending.

        Raises
        ------
        ModelError, SettingsError
            As `identity`.
        """
        self.identity()
        return self._reference

    def folder(self) -> Path | None:
        """Folder of the artefact that is named to serve; None where none is, and the shipped one does."""
        if self.chosen is not None:
            return self.chosen
        try:
            activated = self._activated()
        except SettingsError:
            return None
        return activated.path if activated else None

    def _activated(self) -> Activated | None:
        try:
            content = (self.data / POINTER).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SettingsError(
                f"{POINTER} in the data folder cannot be read ({error.strerror}). Run it as the user that"
                " runs Vigil."
            ) from error
        try:
            return Activated.model_validate_json(content)
        except ValidationError as error:
            raise SettingsError(
                f"{POINTER} in the data folder is damaged. Run `vigil models activate`, or remove the file."
            ) from error

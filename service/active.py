"""Which model is to serve: a setting, or what a person activated. Followed while a process runs."""

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from dicom_node.durable import sync_folder
from models.artefact import CALIBRATION, MANIFEST, Artefact, PictureArtefact, load_artefact
from models.calibration import identify, read_calibration
from models.catalogue import active_artefact
from models.errors import ArtefactError, ModelError
from models.scores import ModelIdentity
from service.errors import SettingsError

POINTER = "model.json"  # in the data folder, which all roles share

log = structlog.get_logger(__name__)


class Activated(BaseModel):
    """Content of ``DATA/model.json``.

    Attributes
    ----------
    path : Path
        Of the artefact's folder.
    sha256 : str
        Of the artefact, as it was when it was activated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    sha256: str


def activate(data: Path, artefact: Artefact | PictureArtefact) -> None:
    """Name the artefact that serves from now on; survives a power cut whole or not at all."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = data / f"{POINTER}.{secrets.token_hex(8)}.part"
    with draft.open("w", encoding="utf-8") as file:
        file.write(Activated(path=artefact.path.resolve(), sha256=artefact.sha256).model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(data / POINTER)
    sync_folder(data)


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
        found = load_artefact(activated.path)
        if found.sha256 != activated.sha256:
            raise ArtefactError(
                activated.path / MANIFEST,
                "is not what was activated; restore it, or run `vigil models activate` again",
            )
        return found

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
        except FileNotFoundError:
            return None
        try:
            return Activated.model_validate_json(content)
        except ValidationError as error:
            raise SettingsError(
                f"{POINTER} in the data folder is damaged. Run `vigil models activate`, or remove the file."
            ) from error

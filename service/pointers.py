"""Files of the data folder that name an artefact: which serves, which only watches."""

import os
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dicom_node.durable import sync_folder
from models.artefact import MANIFEST, Artefact, PictureArtefact, load_artefact
from models.errors import ArtefactError
from service.places import make_data_folder


class Named(BaseModel):
    """An artefact as somebody chose it.

    Attributes
    ----------
    path : Path
        Of the artefact's folder.
    sha256 : str
        Of the artefact, as it was when it was chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    sha256: str

    def load(self) -> Artefact | PictureArtefact:
        """The artefact, every file verified.

        Raises
        ------
        ArtefactError
            If a file of it is missing or changed, or it is not what was chosen.
        """
        found = load_artefact(self.path)
        if found.sha256 != self.sha256:
            raise ArtefactError(
                self.path / MANIFEST, "is not what was chosen; restore it, or choose the model again"
            )
        return found


def write_pointer(data: Path, name: str, content: BaseModel) -> None:
    """Replace a pointer; it survives a power cut whole or not at all."""
    make_data_folder(data)
    draft = data / f"{name}.{secrets.token_hex(8)}.part"
    with draft.open("w", encoding="utf-8") as file:
        file.write(content.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(data / name)
    sync_folder(data)


def remove_pointer(data: Path, name: str) -> None:
    """Name nothing any more; harmless where nothing was named."""
    (data / name).unlink(missing_ok=True)
    if data.is_dir():
        sync_folder(data)

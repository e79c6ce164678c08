"""Where a machine keeps things: the data folder, what stands in it, and what may stand elsewhere."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from dicom_node.durable import make_folder
from service.errors import SettingsError


def make_data_folder(data: Path) -> None:
    """Make the data folder, for us alone; its name survives a power cut.

    Raises
    ------
    SettingsError
        If it cannot be made, or we may not write to it.
    """
    try:
        make_folder(data)
        why = None if os.access(data, os.R_OK | os.W_OK | os.X_OK) else "this user may not write to it"
    except OSError as error:
        why = error.strerror
    if why is not None:
        raise SettingsError(
            f"VIGIL_DATA: {data}: {why}. Name a folder that the user who runs Vigil may make and write, or"
            " have it made for that user."
        )


class Places(BaseSettings):
    """The settings that name folders and files of a machine; `Settings` adds the rest."""

    data: Path = Field(Path("vigil-data"), description="Folder of everything Vigil keeps.")
    key_file: Path | None = Field(
        None,
        description="File of the secret behind study keys, one per site. Unset: DATA/site.key.",
    )
    peers: Path | None = Field(
        None, description="YAML file of DICOM peers, which must be there. Unset: DATA/peers.yaml."
    )
    scratch: Path | None = Field(
        None,
        description="Folder on a local disk for work in hand: what is fetched from the store, and the arrays "
        "of a study larger than its memory, about 20 bytes a voxel. Unset: DATA/scratch.",
    )

    @property
    def spool_folder(self) -> Path:
        """Received instances, by study key."""
        return self.data / "spool"

    @property
    def log_folder(self) -> Path:
        """Segments of what was received and is no file of the spool yet."""
        return self.data / "log"

    @property
    def scratch_folder(self) -> Path:
        """Studies and results fetched from the store, while they are worked on."""
        return self.scratch or self.data / "scratch"

    @property
    def signals_folder(self) -> Path:
        """What peers tell besides images, on its way from the receiver to the other roles."""
        return self.data / "signals"

    @property
    def results_folder(self) -> Path:
        """Result objects and pictures, by study key."""
        return self.data / "results"

    @property
    def engines_folder(self) -> Path:
        """What a GPU was made to run, kept between starts; harmless to lose."""
        return self.data / "engines"

    @property
    def key_path(self) -> Path:
        """File of the site secret."""
        return self.key_file or self.data / "site.key"

    @property
    def peers_path(self) -> Path:
        """File of the DICOM peers; it need not exist."""
        return self.peers or self.data / "peers.yaml"

    @property
    def logs_folder(self) -> Path:
        """Log files of the roles, where a supervisor keeps them."""
        return self.data / "logs"

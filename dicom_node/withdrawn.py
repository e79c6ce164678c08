"""Received files that a deletion took out of their study: on their way out, and not yet gone.

::

    <root>/.deleting/<study key>/<file name>

Once a file lies here, the same instance sent again is a new one: it gets a file of its own, which no deletion
that was decided before has to do with. So a sender never hears success for bytes that are about to go.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from dicom_node.durable import make_folder, sync_folder
from dicom_node.identity import STUDY_KEY
from dicom_node.quarantine import conflict
from dicom_node.quota import DELETING
from dicom_node.spool import Spool, is_copy, parts_of


class Withdrawn:
    """The files of a spool that deletions took out.

    Parameters
    ----------
    spool : Spool
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folder = spool.root / DELETING

    def keys(self) -> list[str]:
        """Keys of the studies that have files here."""
        try:
            names = [entry.name for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if STUDY_KEY.fullmatch(name))

    def take_out(self, key: str, file_names: Iterable[str]) -> None:
        """Take files out of a study, one by one: its folder stays, for an association may have it open.

        Durable on return. A file that is not there is not missed.
        """
        study, here = self._spool.root / key, self._folder / key
        make_folder(here)
        for name in file_names:
            try:
                (study / name).rename(here / name)
            except FileNotFoundError:
                continue
        sync_folder(here)
        if study.is_dir():
            sync_folder(study)

    def put_back(self, key: str) -> None:
        """Give a study its files again; what came under their names meanwhile is a second data set.

        Durable on return. May be killed anywhere and begun again.
        """
        study = self._spool.root / key
        make_folder(study)
        for path in self._files(key):
            final = study / path.name
            try:
                os.link(path, final)
            except FileExistsError:
                # The other, once it stands there, never changes.
                if not final.samefile(path) and not is_copy(path, final):
                    self._spool.quarantine(parts_of(final), conflict(key, path.name))
                path.rename(final)
            path.unlink(missing_ok=True)
        sync_folder(study)
        self._remove_folder(key)

    def remove(self, key: str) -> None:
        """Remove the files of one study for good; durable on return."""
        for path in self._files(key):
            path.unlink(missing_ok=True)
        self._remove_folder(key)

    def _files(self, key: str) -> list[Path]:
        folder = self._folder / key
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _remove_folder(self, key: str) -> None:
        folder = self._folder / key
        if folder.is_dir():
            folder.rmdir()
            sync_folder(self._folder)

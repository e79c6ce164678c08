"""Objects in a folder that all machines see: a network disk, or a folder of this one.

By plain file calls: fsspec's local file system neither syncs what it wrote nor puts it in place as a whole.
"""

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable import sync_folder
from dicom_node.pack import Readable
from service.errors import ObjectMissingError, StorageAwayError
from service.storage import Told

DRAFTS = ".drafts"
LEFT_OVER_S = 24 * 3600.0  # a draft this long untouched belongs to nobody alive


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Objects as files below a root.

    Attributes
    ----------
    root : Path
    """

    root: Path

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a draft, sync it, give it its name, sync that."""
        path = self._path(name)
        drafts = self.root / DRAFTS
        with self._told():
            drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = drafts / secrets.token_hex(16)
            try:
                with draft.open("xb") as file:
                    for part in parts:
                        file.write(part)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(path.parent)
            sync_folder(path.parent.parent)

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        """Object to be read forward."""
        with self.open_at(name, 0) as source:
            yield source

    @contextmanager
    def open_at(self, name: str, start: int) -> Iterator[Readable]:
        """Object to be read forward from one of its bytes on."""
        with self._told():
            file = self._path(name).open("rb")
        with file:
            file.seek(start)
            yield Told(file, self._told)

    def remove(self, name: str) -> None:
        """Remove an object, and its folder when that was the last."""
        path = self._path(name)
        with self._told():
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or gone
                path.parent.rmdir()

    def remove_all(self, folder: str) -> None:
        """Remove every object of a folder, and the folder."""
        path = self._path(folder)
        with self._told(), suppress(FileNotFoundError):
            for file in list(path.iterdir()):
                file.unlink(missing_ok=True)
            path.rmdir()
            sync_folder(path.parent)

    def sweep(self) -> int:
        """Remove drafts that no living process can own; return how many."""
        removed = 0
        with self._told(), suppress(FileNotFoundError), os.scandir(self.root / DRAFTS) as drafts:
            for draft in drafts:
                with suppress(FileNotFoundError):
                    if time.time() - draft.stat(follow_symlinks=False).st_mtime >= LEFT_OVER_S:
                        Path(draft.path).unlink()
                        removed += 1
        return removed

    def _path(self, name: str) -> Path:
        path = self.root / name
        if ".." in path.parts or not path.is_relative_to(self.root):
            raise ObjectMissingError("The store has no such object.")
        return path

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissingError("The store has no such object.") from error
        except OSError as error:
            raise StorageAwayError(
                f"The folder of VIGIL_STORE cannot be used ({error.strerror or type(error).__name__})."
            ) from error

"""Whether the store keeps what it is given, and gives it back."""

import secrets
from collections.abc import Iterator
from pathlib import Path

from service import stored
from service.doctor.answers import Check, failed, failure, ok, unused
from service.errors import SettingsError, StorageError
from service.settings import Settings
from service.storage import keep
from service.storage.folder import FolderStore


def examine(settings: Settings) -> Iterator[Check]:
    """Write an object, read it back, remove it."""
    try:
        objects = stored.open_object_store(settings)
    except SettingsError as error:
        yield failure("store", "settings", error)
        return
    if objects is None:
        yield unused("store", "object", "VIGIL_STORE is unset: workers read the data folder")
        return
    if isinstance(objects, FolderStore) and not Path(objects.root).is_dir():
        yield failed(
            "store",
            "folder",
            "the folder of VIGIL_STORE is not there",
            "Mount it, or correct VIGIL_STORE; an empty folder in its place would hide the mount.",
        )
        return
    name = f"doctor/{secrets.token_hex(8)}/probe"
    try:
        kept = keep(objects, name, [secrets.token_bytes(1024)])
        objects.remove(name)
    except StorageError as error:
        yield failure("store", "object", error)
    else:
        yield ok("store", "object", f"{kept.bytes} bytes written, read back, removed")

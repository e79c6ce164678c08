"""Settings to the parts that keep bytes: packs, results, scratch, and what screens read of them."""

import atexit
from pathlib import Path

from service.errors import SettingsError
from service.holdings import Holdings
from service.provision import Provision
from service.reception import MB
from service.settings import Settings
from service.storage import ObjectStore
from service.storage.folder import FolderStore
from service.storage.scratch import Scratch
from service.store.objects import AtHand, LocalObjects, ResultFolder, ResultObjects, ResultStore, Unchecked
from service.volumes import Volumes


def open_object_store(settings: Settings) -> ObjectStore | None:
    """Return where packs and results are kept for all machines; None where workers read the data folder.

    Raises
    ------
    SettingsError
        If a bucket is named and what speaks to it is not installed, or a key file cannot be read.
    """
    if settings.store is None:
        return None
    scheme, _, rest = settings.store.partition("://")
    if scheme != "s3":
        return FolderStore(Path(rest or settings.store))
    try:
        from service.storage.bucket import BucketStore, Endpoint  # only where a bucket is
    except ImportError as error:
        raise SettingsError(
            "VIGIL_STORE: a bucket needs the extra s3. Install vigil-triage[s3] on this machine."
        ) from error
    bucket, _, prefix = rest.partition("/")
    return BucketStore(
        bucket,
        prefix.strip("/"),
        Endpoint(
            url=settings.store_endpoint,
            access_key=_secret(settings.store_access_key_file, "VIGIL_STORE_ACCESS_KEY_FILE"),
            secret_key=_secret(settings.store_secret_key_file, "VIGIL_STORE_SECRET_KEY_FILE"),
        ),
    )


def _secret(path: Path | None, setting: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: the file cannot be read ({type(error).__name__}).") from error


def open_scratch(settings: Settings) -> Scratch:
    """Return this process's scratch space; what dead processes left is gone."""
    scratch = Scratch(
        settings.scratch_folder,
        most_bytes=None if settings.scratch_mb is None else settings.scratch_mb * MB,
    )
    scratch.sweep()
    atexit.register(scratch.close)
    return scratch


def open_results(settings: Settings, objects: ObjectStore | None, scratch: Scratch) -> ResultObjects:
    """Return where result objects are kept."""
    folder = ResultFolder(settings.results_folder)
    return folder if objects is None else ResultStore(objects, scratch, folder)


def open_pictures(settings: Settings) -> LocalObjects:
    """Return result objects for a screen."""
    objects = open_object_store(settings)
    if objects is None:
        return Unchecked(settings.results_folder)
    folder = ResultFolder(settings.results_folder)
    return AtHand(ResultStore(objects, open_scratch(settings), folder))


def open_volumes(settings: Settings) -> Volumes:
    """Return scored series as volumes, for a screen."""
    objects = open_object_store(settings)
    return Volumes(
        provision=Provision(
            spool_folder=settings.spool_folder,
            objects=objects,
            scratch=None if objects is None else open_scratch(settings),
        ),
        folder=settings.scratch_folder,
    )


def open_holdings(settings: Settings, pictures: LocalObjects) -> Holdings:
    """Return DICOM objects for whoever asks for single ones."""
    objects = open_object_store(settings)
    return Holdings(
        spool_folder=settings.spool_folder,
        results=pictures,
        objects=objects,
        scratch=None if objects is None else open_scratch(settings),
    )

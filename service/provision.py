"""The files of a job for the worker that does it: from the spool, or out of the study's pack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NewerPackError, UnreadableInstanceError
from dicom_node.pack import Unpacked, unpack
from dicom_node.spool import SpooledInstance
from service.errors import (
    InstancesMissingError,
    NewerObjectError,
    ObjectDamagedError,
    ScratchFullError,
    SettingsError,
)
from service.storage import ObjectStore, pack_name
from service.storage.scratch import Scratch
from service.store.jobs import InferenceJob
from service.store.packs import PackFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """Brings the instances of studies to this machine.

    Attributes
    ----------
    spool_folder : Path
    objects : ObjectStore or None
        Where packs are; None at a site whose workers read the spool.
    scratch : Scratch or None
        For what is in hand; needed with `objects`.
    """

    spool_folder: Path
    objects: ObjectStore | None = None
    scratch: Scratch | None = None

    @contextmanager
    def of(self, job: InferenceJob, *, is_checked: bool = True) -> Iterator[list[Path]]:
        """Files of a job's instances, for as long as the block lasts.

        Parameters
        ----------
        job : InferenceJob
        is_checked : bool
            Compare what the spool holds with what was received. What is in a pack is compared in any case.

        Raises
        ------
        StorageError
            If they cannot be had as they were received; `code` says why.
        """
        if job.pack is None:
            yield self._spooled(job, is_checked=is_checked)
            return
        if self.objects is None or self.scratch is None:
            raise SettingsError("The study is in a store. Set VIGIL_STORE for this worker as for the node.")
        with self.scratch.folder(job.pack.bytes, waits=True) as folder:
            self._unpack(job, job.pack, self.objects, folder)
            yield [folder / name for name in job.file_names]

    def _spooled(self, job: InferenceJob, *, is_checked: bool) -> list[Path]:
        folder = self.spool_folder / job.study_key
        paths = [folder / name for name in job.file_names]
        if not all(path.exists() for path in paths) or (is_checked and not _are_as_received(job, folder)):
            raise InstancesMissingError(InstancesMissingError.__doc__)
        return paths

    def _unpack(self, job: InferenceJob, facts: PackFacts, objects: ObjectStore, folder: Path) -> None:
        """Fetch the pack in one read; believe none of it before all of it was checked."""
        try:
            with objects.open(pack_name(job.study_key, job.content_hash)) as source:
                unpacked = unpack(source, folder, most_bytes=facts.bytes)
        except NewerPackError as error:
            raise NewerObjectError(str(error)) from error
        except UnreadableInstanceError as error:
            raise ObjectDamagedError(f"{error} {ObjectDamagedError.__doc__}") from error
        except OSError as error:  # of our own disk: the store's failures have their own classes
            raise ScratchFullError(ScratchFullError.__doc__) from error
        if not _is_as_received(job, facts, unpacked, folder):
            raise ObjectDamagedError(ObjectDamagedError.__doc__)


def _is_as_received(job: InferenceJob, facts: PackFacts, unpacked: Unpacked, folder: Path) -> bool:
    if (unpacked.sha256, unpacked.bytes) != (facts.sha256, facts.bytes):
        return False
    return set(job.file_names) <= set(unpacked.names) and _are_as_received(job, folder)


def _are_as_received(job: InferenceJob, folder: Path) -> bool:
    """Whether every data set has the hash it came with, where it was whole enough to have one."""
    try:
        return all(
            not sha256 or SpooledInstance(path=folder / name, size_bytes=0, mtime_ns=0).sha256() == sha256
            for name, sha256 in job.hashes.items()
        )
    except (UnreadableInstanceError, FileNotFoundError):
        return False

"""The scored series of a study as one volume for a viewer, made when somebody looks."""

import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from models.errors import NotAssessableError
from models.scratch import Scratch
from service import nifti
from service.errors import InstancesMissingError, ScratchFullError, ViewerBusyError
from service.provision import Provision
from service.storage import CHUNK
from service.store.jobs import InferenceJob

MOST_VOXELS = 1 << 26  # what a browser's graphics hold beside its map; a larger series keeps its pictures
PATIENCE_S = 20.0  # that one viewer waits for another's volume
REMEMBERED = 4  # volumes that stay on this machine's disk


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Made:
    """A compressed NIfTI-1 in a file without a name: it ends with whoever reads it last.

    Attributes
    ----------
    descriptor : int
        Closed with this object.
    size : int
        Bytes.
    """

    descriptor: int
    size: int

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)

    def parts(self) -> Iterator[bytes]:
        """The file from its start; several may read at once."""
        for start in range(0, self.size, CHUNK):
            yield os.pread(self.descriptor, CHUNK, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """Makes volumes, one at a time, their voxels on disk: a viewer takes no memory from what receives.

    Attributes
    ----------
    provision : Provision
        Where the instances of a study come from.
    folder : Path
        For voxels in hand and the volumes made last.
    """

    provision: Provision
    folder: Path
    _made: OrderedDict[tuple[str, str], Made] = field(default_factory=OrderedDict)
    _turn: Lock = field(default_factory=Lock)

    def of(self, job: InferenceJob, series_key: str) -> Made:
        """Volume of one series of a job's instances.

        Raises
        ------
        StorageError
            If the instances cannot be had as they were received, or are not what was scored.
        ViewerBusyError
            If others look at larger ones.
        """
        if not self._turn.acquire(timeout=PATIENCE_S):
            raise ViewerBusyError(ViewerBusyError.__doc__)
        try:
            name = (job.content_hash, series_key)
            if name not in self._made:
                self._made[name] = self._make(job, series_key)
                if len(self._made) > REMEMBERED:
                    self._made.popitem(last=False)
            self._made.move_to_end(name)
            return self._made[name]
        finally:
            self._turn.release()

    def _make(self, job: InferenceJob, series_key: str) -> Made:
        from dicom_node.reader import list_series, read_volume  # heavy, and few who serve pages ever read

        with self.provision.of(job) as paths:
            series = next((one for one in list_series(paths) if one.key == series_key), None)
            if series is None:
                raise InstancesMissingError(InstancesMissingError.__doc__)
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                volume = read_volume(series, max_voxels=MOST_VOXELS, scratch=Scratch(self.folder))
                with tempfile.TemporaryFile(dir=self.folder) as file:
                    file.writelines(nifti.of_voxels(volume.voxels, volume.affine))
                    file.flush()
                    return Made(os.dup(file.fileno()), file.tell())
            except NotAssessableError as error:  # it was scored: the files are not what they were
                raise InstancesMissingError(InstancesMissingError.__doc__) from error
            except OSError as error:
                raise ScratchFullError(ScratchFullError.__doc__) from error

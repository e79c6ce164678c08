"""Where arrays of the size of a volume are kept: in memory, or in files that vanish with them.

A volume that is too large for its share of memory lives in files: the kernel writes what is not in use to
the disk and takes the memory back. Whoever works on such arrays goes through them slab by slab, so that
nothing of their size is ever made beside them.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SLAB = 1 << 23  # voxels that are worked on at a time


@dataclass(frozen=True, slots=True)
class Scratch:
    """A place for large arrays.

    Attributes
    ----------
    folder : Path, optional
        On a disk with room; made if need be. None: memory.
    """

    folder: Path | None = None

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros. Its file has no name: it ends with the array, also when the process dies.

        Raises
        ------
        OSError
            If the disk has no room. It is reserved here: a write to a mapped page cannot fail in words.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.folder is None or size == 0:
            return np.zeros(shape, dtype=dtype)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


IN_MEMORY = Scratch()


def slabs(shape: tuple[int, ...], voxels: int = SLAB) -> Iterator[slice]:
    """Ranges of the first axis that together are all of it, each of about ``voxels`` elements."""
    step = max(1, voxels // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))

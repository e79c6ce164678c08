"""A file that has no name yet: complete and durable before anyone can find it."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import SpoolFullError
from dicom_node.receiving.block import PAGE, Block

# From this size on a write around the page cache costs less than one through it (measured on ext4: twice as
# fast at 130 kB; below 64 kB the cache wins).
DIRECT_FROM = 64 * 1024


_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Say it by an error of its own where the block found the disk full.

    Raises
    ------
    SpoolFullError
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise SpoolFullError("The disk of the spool is full.") from error
        raise


@dataclass(frozen=True, slots=True)
class Draft:
    """Open file of unknown name.

    Attributes
    ----------
    descriptor : int
    path : Path
        Leads to it while it is open.
    """

    descriptor: int
    path: Path

    def write(self, part: bytes | memoryview) -> None:
        """Append all of a part."""
        rest = memoryview(part).cast("B")
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    def write_block(self, block: Block) -> None:
        """Write a whole Part 10 file from memory, around the page cache where that pays."""
        if len(block.file) < DIRECT_FROM or not set_direct(self.descriptor, on=True):
            self.write(block.file)
            return
        try:
            self.write(block.padded(PAGE))
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that wants another alignment
                raise
            set_direct(self.descriptor, on=False)
            os.lseek(self.descriptor, 0, os.SEEK_SET)
            self.write(block.file)
        else:
            set_direct(self.descriptor, on=False)
        os.ftruncate(self.descriptor, len(block.file))

    def sync(self) -> None:
        """Make the bytes survive power loss; the name follows with `link` and the folder's own sync."""
        os.fsync(self.descriptor)

    def link(self, folder: int, name: str) -> None:
        """Give it a name in an open folder, for good.

        Raises
        ------
        FileExistsError
            If the name is taken: unlike a rename, a link never replaces.
        """
        # With a folder's descriptor Python follows the link below /proc; without one it does not.
        os.link(self.path, name, dst_dir_fd=folder, follow_symlinks=True)


@contextmanager
def open_draft(folder: Path) -> Iterator[Draft]:
    """Draft on the file system of `folder`; gone afterwards, unless it was linked."""
    named: Path | None = None
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
        path = Path(f"/proc/self/fd/{descriptor}")
    except (AttributeError, OSError):  # some systems, and network file systems, know no unnamed files
        path = named = folder / f"{secrets.token_hex(16)}.part"
        descriptor = os.open(named, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        yield Draft(descriptor, path)
    finally:
        os.close(descriptor)
        if named is not None:
            named.unlink(missing_ok=True)


def set_direct(descriptor: int, *, on: bool) -> bool:
    """Switch writing around the page cache; False where the file system refuses."""
    with suppress(AttributeError, OSError):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        wanted = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
        fcntl.fcntl(descriptor, fcntl.F_SETFL, wanted)
        return True
    return False

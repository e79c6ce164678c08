"""Sites under a condition of their own: a disk that can be full, a clock that can be moved."""

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.faults.site import Site, site

DISK_MB = 640  # database 100, log at most 256, free mark 64, and room for a load

Place = Callable[[Path], AbstractContextManager[Site]]


class UnavailableError(Exception):
    """This machine cannot make the condition. The message says what it lacks."""


def ordinary(folder: Path) -> AbstractContextManager[Site]:
    """Site on whatever disk the folder is on."""
    return site(folder)


@contextmanager
def on_a_small_disk(folder: Path) -> Iterator[Site]:
    """Site whose data folder is a file system of its own, bounded and in memory.

    Raises
    ------
    UnavailableError
    """
    if os.geteuid() != 0:
        raise UnavailableError(
            "Mounting needs root; try `unshare --user --map-root-user --mount python -m tests.faults`."
        )
    data = folder.with_name(f"{folder.name}-disk")
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "vigil-faults", str(data)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"Nothing can be mounted here: {done.stderr.strip()}")
    try:
        with site(folder, data=data) as running:
            yield running
    finally:
        subprocess.run(["umount", "--lazy", str(data)], capture_output=True, check=False)


@contextmanager
def under_another_clock(folder: Path) -> Iterator[Site]:
    """Site, database included, whose time of day `set_clock` moves; the time that only runs stays right.

    Raises
    ------
    UnavailableError
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    library = folder.with_name(f"{folder.name}-clock.so")
    source = Path(__file__).with_name("clock.c")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    except FileNotFoundError:
        raise UnavailableError("Another clock needs a C compiler (cc).") from None
    set_clock(folder, 0)
    settings = {"LD_PRELOAD": str(library), "VIGIL_TEST_CLOCK": str(_clock_of(folder))}
    with site(folder, **settings) as running:
        yield running


def set_clock(folder: Path, wrong_by_s: int) -> None:
    """Let a site's clock be wrong by so many seconds from now on."""
    clock = _clock_of(folder)
    with clock.open("r+b" if clock.exists() else "w+b") as file:  # in place: it is mapped
        file.write(struct.pack("=q", wrong_by_s))


def _clock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.clock")

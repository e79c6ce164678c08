"""Sites under a condition of their own: a disk that can be full, a clock that can be moved."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.faults.site import Site, site

DISK_MB = 640  # database 100, log at most 256, free mark 64, and room for a load
CLOCK_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

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
    """Site, database included, whose time of day is shifted by what stands in ``<folder>.clock``.

    Time that only runs, and times of files, are left as they are: a clock that is set leaves them too.

    Raises
    ------
    UnavailableError
    """
    if not CLOCK_LIBRARIES:
        raise UnavailableError("libfaketime is not installed (Debian: faketime).")
    clock = clock_of(folder)
    clock.write_text("+0\n")
    settings = {
        "LD_PRELOAD": str(CLOCK_LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    with site(folder, **settings) as running:
        yield running


def clock_of(folder: Path) -> Path:
    """File that says by how many seconds a site's clock is wrong."""
    return folder.with_name(f"{folder.name}.clock")

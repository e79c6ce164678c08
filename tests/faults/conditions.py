"""Faults of what every process stands on: the disk, and the clock."""

import os
import random
import time

from tests.faults.places import set_clock
from tests.faults.site import Site

FULL_S = 6.0
LEFT_KB = (0, 64, 4096, 32768)  # what the disk still has: nothing, or less than the node's mark
JUMPS_S = (3600, -3600, 90, -90)  # one after another
MOVED_S = 5.0


def fill_the_disk(site: Site, chance: random.Random, repetitions: int) -> int:
    """The disk under spool, log, results and database is full for a while; then there is room again."""
    filler = site.data / "filler"
    with site.traffic().flowing(chance):
        for number in range(repetitions):
            time.sleep(chance.uniform(1.0, 3.0))
            until = time.monotonic() + FULL_S
            with filler.open("wb") as file:
                while time.monotonic() < until:  # what is freed elsewhere is taken too
                    _grow(file.fileno(), 1024 * LEFT_KB[number % len(LEFT_KB)])
                    time.sleep(0.2)
            filler.unlink()
    return repetitions


def _grow(descriptor: int, left: int) -> None:
    """Take all room but so many bytes."""
    state = os.fstatvfs(descriptor)
    more = state.f_bavail * state.f_frsize - left
    if more > 0:
        try:
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, more)
        except OSError:  # somebody else was faster
            return


def move_the_clock(site: Site, chance: random.Random, repetitions: int) -> int:
    """The time of day jumps, forwards or backwards, and stays wrong."""
    wrong_by = 0
    with site.traffic().flowing(chance):
        for number in range(repetitions):
            time.sleep(chance.uniform(1.0, 3.0))
            wrong_by += JUMPS_S[number % len(JUMPS_S)]
            set_clock(site.folder, wrong_by)
            time.sleep(MOVED_S)
    return repetitions

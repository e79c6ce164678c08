"""The faults, each a function that hurts a site under load and returns when it is let alone again.

A fault decides at random when and whom; the same seed decides the same. It says how often it struck.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults import processes
from tests.faults.destinations import Manner
from tests.faults.site import ROLES, STALLED_S, Site
from tests.faults.traffic import make_study

Fault = Callable[[Site, random.Random, int], int]
ANSWER_S = 0.3  # within which an answer has gone out to a worker that is frozen and cannot read it
MID_JOB_S = 0.5  # most jobs are done within it
STORM = 8  # associations with the same study
TAKEN_OVER_S = 60.0  # a frozen worker may hold locks, which the database takes from it in its own time
RESTART_S = 120.0  # for a killed role to be there again; it rests up to thirty when it dies often


class StrandedRoleError(AssertionError):
    """A role did not come back."""


def kill_roles(site: Site, chance: random.Random, repetitions: int) -> int:
    """Kill -9 of one role after another, at random points of a mixed load."""
    with site.traffic().flowing(chance):
        for number in range(repetitions):
            time.sleep(chance.uniform(0.2, 2.5))
            _kill(site, ROLES[number % len(ROLES)], chance)
    return repetitions


def _kill(site: Site, role: str, chance: random.Random) -> None:
    if role == "supervisor":
        site.kill_supervisor()
        return
    pids = _present(site, role)
    victim = chance.choice(pids)
    processes.kill([victim])
    processes.wait_until_gone([victim], 10.0)


def _present(site: Site, role: str) -> list[int]:
    deadline = time.monotonic() + RESTART_S
    while not (found := site.pids(role)):
        if time.monotonic() > deadline:
            raise StrandedRoleError(f"{role} was not started again within {RESTART_S:.0f} s")
        time.sleep(0.1)
    return found


def kill_postgres(site: Site, chance: random.Random, repetitions: int) -> int:
    """Kill -9 of the database server, postmaster and children, in mid work."""
    with site.traffic().flowing(chance):
        for _ in range(repetitions):
            time.sleep(chance.uniform(1.0, 3.0))
            (postmaster,) = _present(site, "postgres")
            members = processes.family(postmaster)
            processes.kill(members)
            processes.wait_until_gone(members, 10.0)
            site.wait_until_ready()
    return repetitions


def hang_database(site: Site, chance: random.Random, repetitions: int, *, seconds: float = 8.0) -> int:
    """The database stands still: connections are taken and nothing is answered."""
    with site.traffic().flowing(chance):
        for _ in range(repetitions):
            time.sleep(chance.uniform(0.5, 2.0))
            (postmaster,) = _present(site, "postgres")
            with processes.frozen(processes.family(postmaster)):
                time.sleep(seconds)
    return repetitions


def refuse_database(site: Site, chance: random.Random, repetitions: int, *, seconds: float = 8.0) -> int:
    """Every connection to the database is cut and none is accepted for a while."""
    with site.traffic().flowing(chance):
        for _ in range(repetitions):
            time.sleep(chance.uniform(0.5, 2.0))
            with _no_socket(site):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    (postmaster,) = _present(site, "postgres")
                    backends = [
                        pid
                        for pid in processes.children(postmaster)
                        if "vigil vigil" in " ".join(processes.command_line(pid))
                    ]
                    processes.kill(backends, signal.SIGTERM)
                    time.sleep(0.2)
    return repetitions


@contextmanager
def _no_socket(site: Site) -> Iterator[None]:
    socket = next(path for path in site.inside.socket_folder.iterdir() if path.is_socket())
    hidden = socket.with_name("hidden")
    socket.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(socket)


def hurt_destinations(site: Site, chance: random.Random, repetitions: int, *, seconds: float = 5.0) -> int:
    """A destination refuses, resets, crawls or falls silent while results are on their way to it."""
    manners = [Manner.REFUSE, Manner.RESET, Manner.SILENT, Manner.SLOW]
    for number in range(repetitions):
        wire = site.wires[chance.choice(sorted(site.wires))]
        traffic = site.traffic()
        with wire.misbehaving(manners[number % len(manners)]):
            traffic.burst(2)
            time.sleep(seconds)
    return repetitions


def kill_between_acceptance_and_commit(site: Site, chance: random.Random, repetitions: int) -> int:
    """The destination has stored and answered success; the worker dies before it can commit that.

    The worker is frozen when the object arrives, so that it cannot read the answer that then goes out to it,
    and killed while it is frozen.
    """
    struck = threading.Semaphore(0)
    wanted = threading.Semaphore(0)
    dead: set[int] = set()

    def freeze(_: str) -> None:
        workers = [pid for pid in site.pids("deliver") if pid not in dead]
        if not workers or not wanted.acquire(blocking=False):
            return
        dead.update(workers)
        processes.kill(workers, signal.SIGSTOP)
        threading.Timer(ANSWER_S, finish, args=(workers,)).start()

    def finish(workers: list[int]) -> None:
        processes.kill(workers)
        struck.release()

    site.counting.on_receipt = freeze
    try:
        with site.traffic().flowing(chance):
            for _ in range(repetitions):
                wanted.release()
                if not struck.acquire(timeout=RESTART_S + 2 * STALLED_S):
                    raise StrandedRoleError("no delivery came in time")
    finally:
        site.counting.on_receipt = None
    return repetitions


def freeze_workers(site: Site, chance: random.Random, repetitions: int) -> int:
    """Two workers on one job: one stands still in mid job until another has it, then goes on."""
    pools = ("infer", "deliver")
    for number in range(repetitions):
        pool = pools[number % len(pools)]
        with site.worker(pool) as second, site.traffic().flowing(chance):
            (first,) = _present(site, pool)
            zombie = chance.choice([first, second.pid])
            job = _freeze_in_mid_job(site, pool, zombie, chance)
            try:
                _wait_until_taken_over(site, pool, job)
            finally:
                processes.kill([zombie], signal.SIGCONT)
            time.sleep(1.0)  # the zombie finishes what it had in hand
    return repetitions


def _freeze_in_mid_job(site: Site, pool: str, pid: int, chance: random.Random) -> int:
    """Stop a process while it has a job in hand; return the job, which nobody else has."""
    deadline = time.monotonic() + 2 * RESTART_S
    while time.monotonic() < deadline:
        processes.kill([pid], signal.SIGSTOP)
        in_hand = set(site.inside.silent_jobs(pool, silent_s=0.0))
        time.sleep(MID_JOB_S)
        if in_hand & set(site.inside.silent_jobs(pool, silent_s=0.0)):
            time.sleep(STALLED_S / 2)  # living workers say so every quarter of it
            if silent := site.inside.silent_jobs(pool, silent_s=STALLED_S / 2):
                return silent[0]
        processes.kill([pid], signal.SIGCONT)
        time.sleep(chance.uniform(0.05, 0.5))
    raise StrandedRoleError(f"the {pool} worker never had a job")


def _wait_until_taken_over(site: Site, pool: str, job: int) -> None:
    """Wait until a frozen worker's job is its own no more."""
    deadline = time.monotonic() + TAKEN_OVER_S
    while job in site.inside.silent_jobs(pool, silent_s=0.0):
        if time.monotonic() > deadline:
            raise StrandedRoleError(f"a {pool} job was not taken from a worker that stands still")
        time.sleep(0.2)


def storm_of_duplicates(site: Site, chance: random.Random, repetitions: int) -> int:
    """One study comes over many associations at once."""
    traffic = site.traffic()
    for number in range(repetitions):
        study = make_study(
            traffic.folder, f"{traffic.name}-storm{number}", "plain", size=chance.choice([16, 64])
        )
        threads = [threading.Thread(target=traffic.sender.send, args=(study,)) for _ in range(STORM)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return repetitions


def stop_in_mid_work(site: Site, chance: random.Random, repetitions: int) -> int:
    """SIGTERM while everything works; started again, it goes on."""
    with site.traffic().flowing(chance):
        for _ in range(repetitions):
            time.sleep(chance.uniform(0.5, 3.0))
            site.stop()
            site.start()
    return repetitions

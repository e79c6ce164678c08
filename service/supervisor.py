"""The processes of one machine: started in order, restarted always, stopped in reverse order."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.errors import TriageError

WATCH_S = 0.2
STEADY_S = 10.0  # a process that lived this long is restarted at once
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STOP_TIMEOUT_S = 90.0  # for all roles together; above what a worker gives its job in hand
STOP_LOOK_S = 0.02
TELL_GAP_S = 0.25  # two signals at once are one to the process
HURRIED_S = 5.0  # for each role that was told twice

log = structlog.get_logger(__name__)


class Stop(threading.Event):
    """Set when all should stop; its `hurry` when it should not take long."""

    def __init__(self) -> None:
        super().__init__()
        self.hurry = threading.Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One process.

    Attributes
    ----------
    name : str
    command : tuple of str
    environment : dict of str to str
    log_file : Path, optional
        Where its output goes; unset, it shares ours.
    before_start, when_started : callable, optional
        Called before every start (tidy up), and after the first one (wait until it serves).
    stop_signal : int
    is_wanted : callable
        Asked again and again; where it says no, the role rests once its process has ended by itself.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    log_file: Path | None = None
    before_start: Callable[[], None] | None = None
    when_started: Callable[[], None] | None = None
    stop_signal: int = signal.SIGTERM
    is_wanted: Callable[[], bool] = lambda: True


@dataclass(slots=True)
class _Running:
    role: Role
    process: subprocess.Popen[bytes]
    started: float
    failures: int = 0
    restart_at: float | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs roles until told to stop.

    Attributes
    ----------
    roles : sequence of Role
        In start order.
    """

    roles: Sequence[Role]
    _running: list[_Running] = field(default_factory=list)
    _resting: list[Role] = field(default_factory=list)

    def start(self) -> None:
        """Start all roles in order; those already started are stopped again if one cannot start."""
        with ExitStack() as unless_all_start:
            unless_all_start.callback(self.stop)
            for role in self.roles:
                if not role.is_wanted():
                    self._resting.append(role)
                    continue
                self._running.append(_Running(role, _spawn(role), time.monotonic()))
                if role.when_started is not None:
                    role.when_started()
            unless_all_start.pop_all()

    def watch(self, stop: threading.Event) -> None:
        """Restart what ends, whatever its exit code, until `stop` is set."""
        while not stop.wait(WATCH_S):
            for running in tuple(self._running):
                self._look_after(running)
            for role in [role for role in self._resting if role.is_wanted()]:
                self._wake(role)

    def pids(self) -> dict[str, int]:
        """Process id of every role."""
        return {running.role.name: running.process.pid for running in self._running}

    def stop(self, hurry: threading.Event | None = None) -> None:
        """Stop all roles in reverse order, each with time to finish what it has in hand.

        Parameters
        ----------
        hurry : threading.Event, optional
            Once set, roles are told a second time and get `HURRIED_S`. What they had in hand is done again.
        """
        hurry = hurry or threading.Event()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._running:
            running = self._running.pop()
            _tell(running)
            if not _has_ended(running, deadline, hurry):
                time.sleep(TELL_GAP_S)
                _tell(running)
                if not _has_ended(running, time.monotonic() + HURRIED_S, threading.Event()):
                    log.warning("role killed: it did not stop in time", role=running.role.name)
                    running.process.kill()
                    running.process.wait()

    def _look_after(self, running: _Running) -> None:
        now = time.monotonic()
        if running.restart_at is not None:
            if now >= running.restart_at:
                self._restart(running, now)
            return
        code = running.process.poll()
        if code is None:
            return
        if not running.role.is_wanted():
            self._running.remove(running)
            self._resting.append(running.role)
            log.info("role rests", role=running.role.name)
            return
        running.failures = 0 if now - running.started > STEADY_S else running.failures + 1
        pause = _pause_s(running.failures)
        log.warning("role ended", role=running.role.name, exit_code=code, restart_in_s=pause)
        running.restart_at = now + pause

    def _wake(self, role: Role) -> None:
        """Start a role that rested; one that cannot start rests on, and is asked again."""
        try:
            process = _spawn(role)
        except (TriageError, OSError) as error:
            log.exception("role cannot start", role=role.name, error=type(error).__name__)
            return
        self._resting.remove(role)
        self._running.append(_Running(role, process, time.monotonic()))

    @staticmethod
    def _restart(running: _Running, now: float) -> None:
        """Start a role again; one that cannot even start is a short life, not the end of the others."""
        try:
            running.process = _spawn(running.role)
        except (TriageError, OSError) as error:
            running.failures += 1
            running.restart_at = now + _pause_s(running.failures)
            log.exception("role cannot start", role=running.role.name, error=type(error).__name__)
        else:
            running.started, running.restart_at = now, None


def _tell(running: _Running) -> None:
    if running.process.poll() is None:
        running.process.send_signal(running.role.stop_signal)


def _has_ended(running: _Running, deadline: float, hurry: threading.Event) -> bool:
    """Wait for a role that was told to stop, until `deadline` or until `hurry` is set."""
    while running.process.poll() is None:
        if time.monotonic() > deadline or hurry.wait(STOP_LOOK_S):
            return running.process.poll() is not None
    return True


def _pause_s(failures: int) -> float:
    """Seconds before the next start after so many short lives in a row."""
    return min(FIRST_PAUSE_S * 2 ** min(failures - 1, 10), LONGEST_PAUSE_S) if failures else 0.0


def _spawn(role: Role) -> subprocess.Popen[bytes]:
    if role.before_start is not None:
        role.before_start()
    output = None
    if role.log_file is not None:
        role.log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        output = os.open(role.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            role.command,
            env=role.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # the terminal's Ctrl-C reaches us alone; we stop them in order
        )
    finally:
        if output is not None:
            os.close(output)

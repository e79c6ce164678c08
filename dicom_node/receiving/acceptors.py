"""Several processes that accept on one listening socket, so that one interpreter's lock is not the limit.

One process that never starts a thread forks the acceptors and forks again what dies. They share one socket
that listens already: whoever is free accepts, and what waits in its queue when an acceptor dies is accepted
by another. (With a socket each, by SO_REUSEPORT, the kernel deals connections out by their hash, busy or
not, and those dealt to a dead acceptor are lost.)
"""

import gc
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import NoReturn, Self

import structlog

from dicom_node.errors import PortInUseError
from dicom_node.receiving.association import BACKLOG

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
WATCH_S = 0.2
PAUSE_S = 1.0  # before an acceptor is forked again

log = structlog.get_logger(__name__)

Serve = Callable[[socket.socket, str], AbstractContextManager[object]]


@dataclass(slots=True)
class Acceptors:
    """Receivers in processes of their own. To be started before this process has threads.

    Attributes
    ----------
    serve : callable
        From the listening socket and an acceptor's name to its running receiver.
    host : str
    port : int
        0 takes a free one.
    count : int
    on_loss : callable
        Called, on a thread, if the process that watches the acceptors dies.
    """

    serve: Serve
    host: str
    port: int
    count: int
    on_loss: Callable[[], None]
    _leash: int = field(default=-1, init=False)
    _master: int = field(default=-1, init=False)
    _watch: threading.Thread | None = field(default=None, init=False)
    _is_stopping: bool = field(default=False, init=False)
    _is_lost: bool = field(default=False, init=False)

    def start(self) -> None:
        """Listen. Returns when every acceptor accepts.

        Raises
        ------
        PortInUseError
            If the address is taken.
        RuntimeError
            If an acceptor does not start; its log says why.
        """
        listener = listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        held, self._leash = os.pipe()
        ready, tell = os.pipe()
        gc.collect()
        gc.freeze()  # what is shared stays shared: no collection writes into it
        self._master = os.fork()
        if self._master == 0:
            os.close(self._leash)
            os.close(ready)
            _Master(self.serve, listener, self.count, held, tell).run()
        gc.unfreeze()
        listener.close()
        os.close(held)
        os.close(tell)
        try:
            _await_ready(ready, self.count)
        except RuntimeError:
            self.stop()
            raise
        finally:
            os.close(ready)
        self._watch = threading.Thread(target=self._watch_master, name="acceptors", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Let go of the leash and wait: every process of ours then stops by itself."""
        self._is_stopping = True
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        if self._watch is not None:
            self._watch.join(STOP_TIMEOUT_S)
        elif self._master > 0:
            with suppress(ChildProcessError):
                os.waitpid(self._master, 0)

    @property
    def is_stopped_by_us(self) -> bool:
        """Whether they ended because `stop` said so."""
        return not self._is_lost

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _watch_master(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self._master, 0)
        if not self._is_stopping:
            self._is_lost = True
            log.error("the process that watches the acceptors ended")
            self.on_loss()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    PortInUseError
        If the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"The node cannot listen on {host} port {port}: {error.strerror}. "
            "Stop what uses the port, or set another with VIGIL_PORT."
        ) from error
    return listener


def _await_ready(ready: int, count: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while count:
        there, _, _ = select.select([ready], [], [], max(deadline - time.monotonic(), 0.0))
        told = os.read(ready, count) if there else b""
        if not told:
            raise RuntimeError("The acceptors did not start.")
        count -= len(told)


@dataclass(slots=True)
class _Master:
    """The process that forks acceptors and nothing else."""

    serve: Serve
    listener: socket.socket
    count: int
    leash: int
    tell: int
    _acceptors: dict[int, int] = field(default_factory=dict)

    def run(self) -> NoReturn:
        code = 1
        try:
            for ignored in (signal.SIGINT, signal.SIGTERM):
                signal.signal(ignored, signal.SIG_IGN)  # the leash says when to stop, to all at once
            for number in range(self.count):
                self._fork(number)
            while not _is_let_go(self.leash, WATCH_S):
                self._replace_dead()
            while self._acceptors:
                self._acceptors.pop(os.wait()[0], None)
            code = 0
        finally:
            os._exit(code)

    def _replace_dead(self) -> None:
        with suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in self._acceptors:
                number = self._acceptors.pop(pid)
                log.error("acceptor ended", acceptor=number, exit_code=os.waitstatus_to_exitcode(status))
                if not _is_let_go(self.leash, PAUSE_S):
                    self._fork(number)

    def _fork(self, number: int) -> None:
        pid = os.fork()
        if pid:
            self._acceptors[pid] = number
            return
        code = 1
        try:
            with self.serve(self.listener, str(number)):
                with suppress(OSError):  # nobody waits to hear of a second start
                    os.write(self.tell, b"1")
                while not _is_let_go(self.leash, None):
                    pass
            code = 0
        except Exception as error:  # noqa: BLE001 - the border of a process
            log.error("acceptor failed", error=type(error).__name__)  # noqa: TRY400
        finally:
            os._exit(code)


def _is_let_go(leash: int, timeout_s: float | None) -> bool:
    """Wait until the other end of the leash is closed, at most so long."""
    there, _, _ = select.select([leash], [], [], timeout_s)
    return bool(there)

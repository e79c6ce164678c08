"""The node process: the receiver, and beside it the loops that read what it stored."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from service.engine import DATABASE_AWAY

STEP_S = 0.5
WAIT_S = 2.0  # before looking again at what is not in place

log = structlog.get_logger(__name__)


class Step(Protocol):
    """A part that looks once at what there is to do."""

    def step(self, now: datetime) -> None:
        """Do it."""


def run_loops(parts: Mapping[str, Callable[[], Step]], stop: threading.Event) -> None:
    """Run each part in a thread of its own until `stop` is set. Whatever fails, the receiver goes on (I6).

    Parameters
    ----------
    parts : mapping of str to callable
        Name to what makes the part; tried again while something it needs, such as the model, is not in place.
    stop : threading.Event
    """
    threads = [
        threading.Thread(target=_run, args=(name, open_part, stop), name=name)
        for name, open_part in parts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _run(name: str, open_part: Callable[[], Step], stop: threading.Event) -> None:
    part: Step | None = None
    while not stop.is_set():
        try:
            part = part or open_part()
            part.step(datetime.now(UTC))
        except DATABASE_AWAY as error:
            log.warning("node waits for the database", loop=name, error=type(error).__name__)
            stop.wait(WAIT_S)
        except Exception:
            log.exception("loop of the node failed: studies are received, and wait", loop=name)
            stop.wait(WAIT_S)
        stop.wait(STEP_S)

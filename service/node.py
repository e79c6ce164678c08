"""The node process: the receiver, and beside it the loops that read what it stored."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from service.engine import DATABASE_AWAY
from service.errors import SchemaError
from service.store import Store, census

ALIVE_S = 10.0  # between words to the database that the node lives
STEP_S = 0.5
CHECK_S = 5.0  # between looks at which release the database belongs to
WAIT_S = 2.0  # before looking again at what is not in place

log = structlog.get_logger(__name__)


class Step(Protocol):
    """A part that looks once at what there is to do."""

    def step(self, now: datetime) -> None:
        """Do it."""


@dataclass(slots=True)
class Alive:
    """Tells the database now and then that the node lives, for those who look from elsewhere.

    Attributes
    ----------
    store : Store
    """

    store: Store
    _told_at: float = float("-inf")

    def step(self, now: datetime) -> None:  # noqa: ARG002 - a loop's step is told the time
        """Tell it every few seconds."""
        if time.monotonic() - self._told_at >= ALIVE_S:
            with self.store.transaction() as session:
                census.beat(session, census.NODE)
            self._told_at = time.monotonic()


def run_loops(
    parts: Mapping[str, Callable[[], Step]],
    stop: threading.Event,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Run each part in a thread of its own until `stop` is set. Whatever fails, the receiver goes on (I6).

    Parameters
    ----------
    parts : mapping of str to callable
        Name to what makes the part; tried again while something it needs, such as the model, is not in place.
    stop : threading.Event
    check : callable
        Raises SchemaError while this release may not work on the database as it is; asked now and then.
    """
    threads = [
        threading.Thread(target=_run, args=(name, open_part, stop, check), name=name)
        for name, open_part in parts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _run(name: str, open_part: Callable[[], Step], stop: threading.Event, check: Callable[[], None]) -> None:
    part: Step | None = None
    checked = float("-inf")
    while not stop.is_set():
        try:
            if time.monotonic() - checked > CHECK_S:
                check()
                checked = time.monotonic()
            part = part or open_part()
            part.step(datetime.now(UTC))
        except SchemaError as error:
            log.error("studies are received, and wait", loop=name, remedy=str(error))  # noqa: TRY400 - not a defect
            stop.wait(WAIT_S)
        except DATABASE_AWAY as error:
            log.warning("node waits for the database", loop=name, error=type(error).__name__)
            stop.wait(WAIT_S)
        except Exception:
            log.exception("loop of the node failed: studies are received, and wait", loop=name)
            stop.wait(WAIT_S)
        stop.wait(STEP_S)

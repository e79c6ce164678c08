"""The node process: the receiver, and the intake loop that reads what it stored."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from service.engine import DATABASE_AWAY
from service.intake import Intake

STEP_S = 0.5
WAIT_S = 2.0  # before looking again at what is not in place

log = structlog.get_logger(__name__)


def run_intake(open_intake: Callable[[], Intake], stop: threading.Event) -> None:
    """Turn arrivals into jobs until `stop` is set. Whatever fails here, the receiver goes on (I6).

    Parameters
    ----------
    open_intake : callable
        Makes the intake; tried again while something it needs, such as the model, is not in place.
    stop : threading.Event
    """
    intake: Intake | None = None
    while not stop.is_set():
        try:
            intake = intake or open_intake()
            intake.step(datetime.now(UTC))
        except DATABASE_AWAY as error:
            log.warning("intake waits for the database", error=type(error).__name__)
            stop.wait(WAIT_S)
        except Exception:
            log.exception("intake failed: studies are received, not queued")
            stop.wait(WAIT_S)
        stop.wait(STEP_S)

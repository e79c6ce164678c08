"""The node process: the receiver, and the intake loop that reads what it stored."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from service.engine import DATABASE_AWAY
from service.errors import SchemaError
from service.intake import Intake

STEP_S = 0.5
CHECK_S = 5.0  # between looks at which release the database belongs to
WAIT_S = 2.0  # before looking again at what is not in place

log = structlog.get_logger(__name__)


def run_intake(
    open_intake: Callable[[], Intake], stop: threading.Event, *, check: Callable[[], None] = lambda: None
) -> None:
    """Turn arrivals into jobs until `stop` is set. Whatever fails here, the receiver goes on (I6).

    Parameters
    ----------
    open_intake : callable
        Makes the intake; tried again while something it needs, such as the model, is not in place.
    stop : threading.Event
    check : callable
        Raises SchemaError while this release may not work on the database as it is; asked now and then.
    """
    intake: Intake | None = None
    checked = float("-inf")
    while not stop.is_set():
        try:
            if time.monotonic() - checked > CHECK_S:
                check()
                checked = time.monotonic()
            intake = intake or open_intake()
            intake.step(datetime.now(UTC))
        except SchemaError as error:
            log.error("studies are received, not queued", remedy=str(error))  # noqa: TRY400 - not a defect
            stop.wait(WAIT_S)
        except DATABASE_AWAY as error:
            log.warning("intake waits for the database", error=type(error).__name__)
            stop.wait(WAIT_S)
        except Exception:
            log.exception("intake failed: studies are received, not queued")
            stop.wait(WAIT_S)
        stop.wait(STEP_S)

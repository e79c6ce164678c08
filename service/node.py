"""The node process: the receiver, and the intake loop that reads what it stored."""

import threading
from datetime import UTC, datetime

import structlog

from service.engine import DATABASE_AWAY
from service.intake import Intake

STEP_S = 0.5
WAIT_FOR_DATABASE_S = 2.0

log = structlog.get_logger(__name__)


def run_intake(intake: Intake, stop: threading.Event) -> None:
    """Turn arrivals into jobs until `stop` is set. The receiver goes on while the database is away (I6)."""
    while not stop.is_set():
        try:
            intake.step(datetime.now(UTC))
        except DATABASE_AWAY as error:
            log.warning("intake waits for the database", error=type(error).__name__)
            stop.wait(WAIT_FOR_DATABASE_S)
        stop.wait(STEP_S)

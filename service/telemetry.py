"""Logging: one JSON object a line on standard error, with identity kept out (I9).

Our own messages name study keys. What libraries say may hold names or UIDs, so the DICOM libraries' words
are withheld, UIDs are struck out of everything, and a foreign exception is told by type and place alone.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from dicom_node.errors import DicomNodeError
from models.errors import ModelError
from service.errors import TriageError

# These quote values of data sets or of orders. Their warnings are counted as such, without the words.
WITHHELD = ("pydicom", "pynetdicom", "highdicom", "hl7", "py.warnings")
QUIET = ("procrastinate", "alembic", "sqlalchemy", "uvicorn", "PIL", "httpx")
OWN_ERRORS = (DicomNodeError, ModelError, TriageError)  # their messages are free of identity by design

_UID = re.compile(r"(?<![\d.])(?:2\.25\.\d{6,}|[0-2](?:\.\d+){4,})")


def configure_logging(level: str) -> None:
    """Send all logging of this process to standard error as JSON lines.

    Parameters
    ----------
    level : str
        Least level of our own messages: DEBUG, INFO, WARNING or ERROR.
    """
    logging.captureWarnings(capture=True)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _safe_exception,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, _withhold],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                scrub,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in (*QUIET, *WITHHELD):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What nobody catches would be printed with its words.
    sys.excepthook = lambda _, error, __: _log_uncaught(error)
    threading.excepthook = lambda ended: _log_uncaught(ended.exc_value)


def _log_uncaught(error: BaseException | None) -> None:
    structlog.get_logger(__name__).critical("uncaught", exc_info=error)


def scrub(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Strike out whatever looks like a UID, in every value of a log event."""
    return {name: _scrubbed(value) for name, value in event.items()}


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _UID.sub("[uid]", value)
    if isinstance(value, dict):
        return {name: _scrubbed(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item) for item in value]
    return value


def _withhold(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the words of libraries that quote data sets."""
    logger = str(event.get("logger", ""))
    if logger.partition(".")[0] in WITHHELD or logger in WITHHELD:
        event["event"] = "message withheld: it may quote a data set"
        event.pop("exception", None)
    return event


def _safe_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Render exceptions as type and place; the message only of our own errors."""
    info = event.pop("exc_info", None)
    if not info:
        return event
    error = info if isinstance(info, BaseException) else sys.exc_info()[1] if info is True else info[1]
    if error is not None:
        event["exception"] = [_told(link) for link in _causes(error)]
    return event


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _told(error: BaseException) -> dict[str, Any]:
    told: dict[str, Any] = {"type": type(error).__name__, "at": _places(error.__traceback__)}
    if isinstance(error, OWN_ERRORS):
        told["message"] = str(error)
    return told


def _places(trace: TracebackType | None) -> list[str]:
    return [
        f"{frame.name} {frame.filename.rpartition('/')[2]}:{frame.lineno}"
        for frame in traceback.extract_tb(trace)
    ]

"""What every command does: take its settings, and speak to who called it."""

import json
import sys

from service.settings import Settings, load_settings
from service.telemetry import configure_logging


def begin(**overrides: object) -> Settings:
    """Settings of a command, with its options on top; its logging begins.

    Raises
    ------
    SettingsError
        Naming the setting and what is wrong with it.
    """
    settings = load_settings(**overrides)
    configure_logging(settings.log_level)
    return settings


def say(line: str) -> None:
    """Tell a person how it goes, on standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command line prints


def out(line: object) -> None:
    """Give the answer, on standard output."""
    print(line, flush=True)  # noqa: T201 - a command line prints


def out_json(document: object) -> None:
    """Give the answer as one JSON document."""
    out(json.dumps(document, indent=1, default=str))

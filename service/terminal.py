"""What every command does: take its settings, and speak to who called it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.settings import Settings, load_settings
from service.telemetry import configure_logging
from service.traces import require_packages

EXIT_FAILED = 1  # of a command that could not do what it should

Data = Annotated[Path | None, typer.Option(help="Folder of everything Vigil keeps.")]
LONGEST_REASON = 500  # characters


def _is_reason(told: str) -> str:
    if not 0 < len(told.strip()) <= LONGEST_REASON:
        raise typer.BadParameter(f"1 to {LONGEST_REASON} characters")
    return told


Reason = Annotated[str, typer.Option(help="Why, for the audit trail. Name no patient.", callback=_is_reason)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def begin(**overrides: object) -> Settings:
    """Settings of a command, with its options on top; its logging begins.

    Raises
    ------
    SettingsError
        Naming the setting and what is wrong with it, or what it needs.
    """
    settings = load_settings(**overrides)
    configure_logging(settings.log_level)
    require_packages(settings.traces)
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

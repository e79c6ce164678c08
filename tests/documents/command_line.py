"""What the command line of Vigil would say to a command of a document, without running it."""

import re
from dataclasses import replace
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
import yaml

from service.cli import app
from tests.documents.pages import MODULE, PROGRAMS, ROOT, Command

VIGIL: Any = typer.main.get_command(app)
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*(/[\w.-]*)*|N|\$\{?\w+\}?")
COMPOSE = "docker-compose"
WRAPPED = "test"  # ./vigil itself, not the command line: runs tests/run.py


def fault_of(command: Command) -> str | None:
    """Return why a command of a document cannot be run as it stands there, or None.

    A mention may leave arguments, and the value of its last option, out.
    """
    if command.words[:2] == MODULE:
        return _fault_of_module(command.words[2:])
    if command.words[0] == COMPOSE:
        return _fault_of_containers(command)
    if command.words[0] not in PROGRAMS:
        return None
    if command.words[1:2] == (WRAPPED,):
        return _unknown_option(command.words[2:], ROOT / "tests" / "run.py")
    return _fault_of_call(command)


def name_of(command: Command) -> tuple[str, ...]:
    """Return what a command is called: its program and subcommands, or its module, without arguments."""
    words = command.words
    if words[:2] == MODULE:
        return words[:3]
    if words[0] not in PROGRAMS:
        return words[:1]
    if words[1:2] == (WRAPPED,):
        return ("vigil", WRAPPED)
    return ("vigil", *_find(words[1:])[1])


def options_of(command: Command) -> set[str]:
    return {word.split("=")[0] for word in command.words if re.match(r"--?[a-z]", word)}


def _find(words: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Return the command that words lead to, and its name."""
    found, names = VIGIL, ()
    for word in words:
        inner = getattr(found, "commands", {})
        if word not in inner:
            break
        found, names = inner[word], (*names, word)
    return found, names


def _fault_of_call(command: Command) -> str | None:
    words = command.words[1:]
    found, names = _find(words)
    rest = list(words[len(names) :])
    if hasattr(found, "commands"):
        named = rest and not rest[0].startswith("-") and not PLACEHOLDER.fullmatch(rest[0])
        return f"there is no {rest[0]!r} in vigil {' '.join(names)}" if named else None
    if "--help" in rest:
        return None
    options = {name: option for option in found.params for name in (*option.opts, *option.secondary_opts)}
    return _fault_of_arguments(rest, found, options, is_mention=command.is_mention)


def _fault_of_arguments(
    rest: list[str], found: Any, options: dict[str, Any], *, is_mention: bool
) -> str | None:
    given: dict[str, str | None] = {}  # option → its value; None where a mention leaves it out
    arguments: list[str] = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            arguments.append(word)
            continue
        name, is_joined, value = word.partition("=")
        if name not in options:
            return f"there is no option {name}"
        if not options[name].is_flag and not is_joined and not rest and not is_mention:
            return f"{name} has no value"
        takes = not options[name].is_flag and not is_joined and rest
        given[name] = rest.pop(0) if takes else value or None
    taken = [param for param in found.params if param.param_type_name == "argument"]
    if all(param.nargs == 1 for param in taken) and len(arguments) > len(taken):
        return f"{len(arguments)} arguments where {len(taken)} are taken"
    values = [(options[name], name, value) for name, value in given.items()]
    values += [(param, param.name, value) for param, value in zip(taken, arguments, strict=False)]
    faults = [fault for param, name, value in values if value and (fault := _strange(param, name, value))]
    present = {options[name].name for name in given} | {param.name for param in taken[: len(arguments)]}
    lacking = [param.name for param in found.params if param.required and param.name not in present]
    if lacking and not is_mention:
        faults.append(f"{', '.join(lacking)} missing")
    return "; ".join(faults) or None


def _strange(param: Any, name: str, value: str) -> str | None:
    """Say that a value is none of those that a parameter takes."""
    kind = param.type_descriptor.annotation
    known = {str(one.value) for one in kind} if isinstance(kind, type) and issubclass(kind, Enum) else set()
    if not known or value in known or PLACEHOLDER.fullmatch(value):
        return None
    return f"{name} is one of {sorted(known)}, not {value}"


def _fault_of_containers(command: Command) -> str | None:
    """Say which service the compose file has not, or what is wrong with the call of Vigil within one."""
    known = {
        service
        for name in ("compose.yaml", "compose.override.yaml")
        for service in yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["services"]
    }
    named = [word for word in command.words[2:] if not word.startswith("-") and "=" not in word]
    services = named[:1] if command.words[1:2] in {("exec",), ("run",)} else named
    if lost := [service for service in services if service not in known]:
        return f"compose.yaml has no service {', '.join(lost)}"
    inner = named and command.words[command.words.index(named[0]) + 1 :]
    if command.words[1] == "run":
        return fault_of(replace(command, words=("vigil", *inner)))  # the entry point of every image
    if services != named and inner and inner[0] in PROGRAMS:
        return fault_of(replace(command, words=tuple(inner)))
    return None


def _fault_of_module(words: tuple[str, ...]) -> str | None:
    module, *rest = words
    spec = find_spec(module) if module.startswith(("tests", "service", "models", "dicom_node")) else None
    if spec is None:
        # pip, pytest and others are not ours to know.
        return (
            None
            if module in {"pytest", "pip", "venv", "http.server", "json.tool", "mkdocs"}
            else f"no {module}"
        )
    if spec.submodule_search_locations:
        sources = [Path(folder) for folder in spec.submodule_search_locations]
        return _unknown_option(tuple(rest), *(path for folder in sources for path in folder.glob("*.py")))
    return _unknown_option(tuple(rest), Path(str(spec.origin)))


def _unknown_option(words: tuple[str, ...], *sources: Path) -> str | None:
    """Say which option none of the sources holds: scripts read theirs by argparse."""
    known = "".join(path.read_text(encoding="utf-8") for path in sources)
    unknown = [
        word for word in words if re.match(r"--[a-z]", word) and f'"{word.split("=")[0]}"' not in known
    ]
    return f"no option {', '.join(unknown)}" if unknown else None

"""Every check, in the order in which a failure is cheapest to see: ``./vigil test [--long]``.

The last line counts tests. A check that fails ends the run with its own exit code.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

# By the groups of tests/conftest.py, in its order. Four on two processors: machines mostly wait.
FOUR_AT_ONCE = ("-n", "4", "--dist", "loadscope", "--no-loadscope-reorder")
# Where Python is told to keep no bytecode, each of the hundreds of processes that tests start would compile
# all of Vigil again, a third of a second each; a variable that is empty is one that is not set.
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Check:
    """One command that must succeed."""

    name: str
    command: tuple[str, ...]


def checks(*, with_long: bool) -> tuple[Check, ...]:
    """Return the checks in their order; the tests are the last."""
    python = sys.executable
    chosen = () if with_long else ("-m", "not long")
    return (
        Check("lint", (python, "-m", "ruff", "check", ".")),
        Check("format", (python, "-m", "ruff", "format", "--check", ".")),
        Check(
            "weaknesses",
            (
                *(python, "-m", "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive"),
                *("service", "dicom_node", "models", "deploy"),
            ),
        ),
        Check("types", (python, "-m", "mypy")),
        Check("import direction", (str(BIN / "lint-imports"),)),
        Check("documents", (python, "-m", "mkdocs", "build", "--strict")),
        Check("the engine on a PostgreSQL of the site", (python, "-m", "tests.site_postgres")),
        Check(
            "tests",
            (python, "-m", "pytest", "-q", *FOUR_AT_ONCE, *chosen),
        ),
    )


def run(listed: Sequence[Check], *, root: Path = ROOT) -> int:
    """Run checks until one fails; return its exit code, or 0.

    Parameters
    ----------
    listed : sequence of Check
        The last one is the tests, which prints their count itself; it begins when all others have passed.
        Those run beside each other, for each has use for one processor, and are told of in their order.
    root : Path
        Folder to run in.
    """
    *quick, tests = listed
    begun = time.monotonic()
    with ThreadPoolExecutor(max(len(quick), 1)) as pool:
        for number, (check, done) in enumerate(
            zip(quick, pool.map(_finish, quick, repeat(root)), strict=True)
        ):
            _say(_title(number + 1, listed))
            sys.stdout.write(done.stdout)
            if done.returncode != 0:
                _say(f"{check.name} failed with exit code {done.returncode}; no test was run")
                _say("0 passed, 0 failed, 0 skipped")
                return done.returncode
            _say(f"      passed, {time.monotonic() - begun:.0f} s after the start")
    _say(_title(len(listed), listed))
    return subprocess.run(
        tests.command, cwd=root, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False
    ).returncode


def _finish(check: Check, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        check.command,
        cwd=root,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _title(number: int, listed: Sequence[Check]) -> str:
    check = listed[number - 1]
    return f"[{number}/{len(listed)}] {check.name}: {' '.join(_shown(part) for part in check.command)}"


def _shown(part: str) -> str:
    """Return a part of a command as people know it: programs by name."""
    return Path(part).name if part.startswith("/") else part


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="vigil test", description="Run every check.")
    parser.add_argument("--long", action="store_true", help="also the tests that take many minutes")
    return run(checks(with_long=parser.parse_args().long))


if __name__ == "__main__":
    sys.exit(main())

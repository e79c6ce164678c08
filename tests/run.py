"""Every check, in the order in which a failure is cheapest to see: ``./vigil test [--long]``.

The last line counts tests. A check that fails ends the run with its own exit code.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# By the groups of tests/conftest.py, in its order. Three on two processors: machines mostly wait.
THREE_AT_ONCE = ("-n", "3", "--dist", "loadscope", "--no-loadscope-reorder")
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
        Check("types", (python, "-m", "mypy")),
        Check("import direction", (str(BIN / "lint-imports"),)),
        Check("the engine on a PostgreSQL of the site", (python, "-m", "tests.site_postgres")),
        Check(
            "tests",
            (python, "-m", "pytest", "-q", *THREE_AT_ONCE, *chosen),
        ),
    )


def run(listed: Sequence[Check], *, root: Path = ROOT) -> int:
    """Run checks until one fails; return its exit code, or 0.

    Parameters
    ----------
    listed : sequence of Check
        The last one is the tests and prints their count itself.
    root : Path
        Folder to run in.
    """
    for number, check in enumerate(listed, start=1):
        _say(f"[{number}/{len(listed)}] {check.name}: {' '.join(_shown(part) for part in check.command)}")
        begun = time.monotonic()
        code = subprocess.run(check.command, cwd=root, stdin=subprocess.DEVNULL, check=False).returncode
        if check is listed[-1]:
            return code
        if code != 0:
            _say(f"{check.name} failed with exit code {code}; no test was run")
            _say("0 passed, 0 failed, 0 skipped")
            return code
        _say(f"      passed in {time.monotonic() - begun:.0f} s")
    return 0


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

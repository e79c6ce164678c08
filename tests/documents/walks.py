"""Walks: the commands of a page, taken from the page, run in their order as its reader would.

What stands in a page for something of the reader's (``KEY``, ``STUDY_FOLDER``, a port) is put in by the walk.
A ``text`` fence right below a block is what it prints: its lines are looked for in their order, ``...`` is
anything.
"""

import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

from tests.documents.command_line import name_of
from tests.documents.pages import ROOT, Block, commands_of, pages, shell_blocks


def pages_below(folder: str) -> tuple[str, ...]:
    return tuple(page for page in pages() if page.startswith(folder))


# In this order, on one running Vigil.
WALKED = (
    "docs/start.md",
    "README.md",
    "docs/messages.md",
    "docs/administrator.md",
    "docs/api.md",
    "docs/readers.md",
    "docs/screening.md",
    *pages_below("docs/runbooks/"),
    "docs/pacs.md",
)
# Command → the test file that runs it: what takes long, or needs what the walks have not.
ELSEWHERE = {
    "promtool": "tests/test_monitoring.py",
    "vigil calibrations accept": "tests/service/test_calibrations_cli.py",
    "vigil calibrations propose": "tests/service/test_calibrations_cli.py",
    "vigil calibrations rescore": "tests/service/test_calibrations_cli.py",
    "vigil demo": "tests/documents/test_demonstration.py",
    "vigil drift dismiss": "tests/service/test_watches.py",
    "vigil models calibrate": "tests/service/test_calibration_cli.py",
    "vigil models coverage": "tests/service/test_calibration_cli.py",
    "vigil models evaluate": "tests/service/test_models_cli.py",
    "vigil models compare": "tests/service/test_changing.py",
    "vigil models promote": "tests/service/test_changing.py",
    "vigil models rollback": "tests/service/test_changing.py",
    "vigil models shadow": "tests/service/test_changing.py",
    "vigil models train": "tests/service/test_models_cli.py",
    "vigil test": "tests/test_bootstrap.py",
}
# Page → the test that takes all its blocks out of it and follows them: it needs more than one machine.
FOLLOWED = {"docs/scale-out.md": "tests/end_to_end/test_scale_out.py"}
SERVING = ("vigil", "up")
PATIENCE_S = 120
# A line that is one call of Vigil, or sets a variable, to its answer or to a word: what needs no shell.
CALL = re.compile(r"(\./)?vigil [^|<>$&;()`]*")
ANSWER = re.compile(r"([A-Z_]+)=\$\(((?:\./)?vigil [^|<>$&;()`]*)\)")
EXPORT = re.compile(r"export ([A-Z_]+)=([^|<>$&;()`\s]*)")

# A process that has read the command line's modules once, and becomes a command for each that is run.
READY_MADE = multiprocessing.get_context("forkserver")
READY_MADE.set_forkserver_preload(["service.cli", "service.wiring"])


@dataclass(slots=True)
class Walk:
    """A person at a terminal.

    Attributes
    ----------
    folder : Path
        Where they stand.
    values : mapping of str to str, or to a function that says it when it is needed
        What they write for the words of the page.
    environment : dict
        Of their shell; what a block exports is there in the next.
    done : set of str
        Calls that succeeded: pages repeat each other's, and a walk does not.
    """

    folder: Path
    values: Mapping[str, str | Callable[[], str]]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        tools = self.folder / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        for path, words in (
            (self.folder / "vigil", "-m service.cli"),
            (tools / "vigil", "-m service.cli"),
            (tools / "python", ""),
        ):
            path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            path.chmod(0o755)
        # Elsewhere a role may have named a folder of its own for temporary files, too long for a socket.
        with patch.object(tempfile, "tempdir", None):
            forkserver.ensure_running()  # it reads the modules while the site starts
        self.environment |= {
            "PATH": f"{tools}:{os.environ['PATH']}:/usr/sbin",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",  # tables of the command line are as wide as a terminal
        }

    def filled(self, text: str) -> str:
        """Put the reader's own values into a text of the page."""
        for word in sorted(self.values, key=len, reverse=True):
            if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text):
                given = self.values[word]
                value = given if isinstance(given, str) else given()
                text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", lambda _, v=value: v, text)
        return text

    def run(self, block: Block) -> str:
        """Run a block; return what it printed.

        Raises
        ------
        AssertionError
            If a command of it failed, or the page says something else of what it prints.
        """
        text = self.filled(block.text)
        printed = ""
        # A document within the block is the shell's, from its first line to its last.
        for line in [text] if "<<" in text else text.replace("\\\n", " ").splitlines():
            if CALL.fullmatch(line):
                if block.printed or line not in self.done:
                    printed += self._call(block, line)
                    self.done.add(line)
            elif taken := ANSWER.fullmatch(line):
                self.environment[taken[1]] = self._call(block, taken[2]).strip()
            elif given := EXPORT.fullmatch(line):
                self.environment[given[1]] = given[2]
            elif line.strip():
                printed += self._in_shell(block, line)
        missing = self.not_printed(block, printed)
        assert missing is None, f"{block.where}: {missing!r} is not in\n{printed}"
        return printed

    def not_printed(self, block: Block, printed: str) -> str | None:
        """Return the first line that the page shows below a block and that it did not print, or None."""
        at = 0
        for line in self.filled(block.printed).splitlines():
            pattern = ".*?".join(re.escape(part) for part in line.strip().split("..."))
            found = re.search(pattern, printed[at:])
            if found is None:
                return line
            at += found.end()
        return None

    def say(self, text: str) -> str:
        """Make a call of Vigil that no page has; return what it printed."""
        return self._call(Block("the walk", 0, "sh", text, is_untried=False), text)

    def start(self, block: Block, output: Path) -> subprocess.Popen[bytes]:
        """Begin what a block leaves running, in the reader's first terminal; its words go to `output`."""
        # By exec the process is the program itself, which is told to stop at the end.
        text = re.sub(r"(?m)^(\./vigil)", r"exec \1", self.filled(block.text))
        with output.open("wb") as stream:
            return subprocess.Popen(
                ["bash", "-c", f"set -aeu\n{text}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def _in_shell(self, block: Block, text: str) -> str:
        exported = self.folder / "exported"
        done = subprocess.run(
            ["bash", "-c", f"set -aeuo pipefail\n{text}\nenv -0 >{shlex.quote(str(exported))}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.where} ended with {done.returncode}:\n{done.stdout}"
        pairs = (entry.partition("=") for entry in exported.read_text().split("\0") if entry)
        self.environment = {name: value for name, _, value in pairs}
        return done.stdout

    def _call(self, block: Block, line: str) -> str:
        output = self.folder / "printed"
        words = tuple(shlex.split(line, comments=True)[1:])
        process = READY_MADE.Process(target=_become, args=(words, self.folder, self.environment, output))
        process.start()
        process.join(PATIENCE_S)
        printed = output.read_text()
        assert process.exitcode == 0, f"{block.where}: {line} ended with {process.exitcode}:\n{printed}"
        return printed


def _become(words: tuple[str, ...], folder: Path, environment: dict[str, str], output: Path) -> None:
    """Be a command of Vigil."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with output.open("w") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    from service.cli import main

    sys.argv = ["vigil", *words]
    main()


def walked_blocks(page: str) -> list[Block]:
    """Return the blocks of a page that its walk runs: not the untried, nor what other tests run."""
    return [
        block
        for block in shell_blocks(page)
        if not block.is_untried
        and not all(" ".join(name_of(command)) in ELSEWHERE for command in commands_of(block))
    ]


def serves(block: Block) -> bool:
    """Whether a block starts what runs until it is told to stop."""
    return any(name_of(command) == SERVING for command in commands_of(block))

"""How a screening goes, for a terminal or a log."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service.store import cohorts

LINE_S = 30.0  # between two lines where nobody looks at a terminal
RATE_S = 300.0  # what the time left is told from


@dataclass(slots=True)
class Bars:
    """Bars on a terminal; elsewhere a line now and then.

    Attributes
    ----------
    console : Console
        On standard error: standard output is for the answer.
    """

    console: Console
    _progress: Progress = field(init=False)
    _looked: TaskID | None = None
    _gathered: TaskID | None = None
    _ended: TaskID | None = None
    _count: int = 0
    _total: int | None = None
    _told_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:24s}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            speed_estimate_period=RATE_S,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Take one line for a person."""
        self._progress.console.print(line, markup=False)

    def looked(self, files: int) -> None:
        """Take how many files were looked at."""
        if self._looked is None:
            self._looked = self._progress.add_task("looking, files", total=None)
        self._progress.update(self._looked, completed=files)
        self._line(f"looked at {files} files")

    def gathering(self, total: int | None) -> None:
        """Take how many studies are to be gathered."""
        if self._looked is not None:
            done = self._progress.tasks[self._looked].completed
            self._progress.update(self._looked, total=done)
        self._count, self._total = 0, total
        if self._gathered is None:
            self._gathered = self._progress.add_task("gathered, studies", total=total)
        self._progress.reset(self._gathered, total=total)

    def gathered(self, studies: int) -> None:
        """Take how many more were dealt with."""
        self._count += studies
        if self._gathered is not None:
            self._progress.update(self._gathered, completed=self._count)
        self._line(f"gathered {self._count} of {self._total or 'so many as there are'}")

    def progressed(self, progress: cohorts.Progress) -> None:
        """Take how far the cohort is."""
        total = max(progress.members, self._total or 0)
        ended = sum(progress.ended.values()) + progress.left_out
        if self._ended is None:
            self._ended = self._progress.add_task("ended, studies", total=total)
        self._progress.update(self._ended, completed=ended, total=total)
        self._line(f"ended {ended} of {total}")

    def _line(self, line: str) -> None:
        """Tell a log file, which has no bars."""
        if not self.console.is_terminal and time.monotonic() - self._told_at > LINE_S:
            self._told_at = time.monotonic()
            self.say(line)

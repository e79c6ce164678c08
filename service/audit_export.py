"""The audit trail to the site's audit repository, row by row, in order, none left out.

The queue is the trail itself: its rows are durable, in order and never removed, so all that is kept beside
them is how far the repository is. A repository that is away costs nothing but that number standing still; a
kill between arrival and note sends a batch twice, and the row's number tells the second copy.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service import atna
from service.store import Store, trail
from service.syslog import Receiver, RepositoryAwayError, host_name, syslog_message

NAME = "syslog"
AT_ONCE = 200  # rows of a batch: half a megabyte at most
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class AuditExport:
    """Tells the audit repository what it does not know yet. Several processes may try; one does.

    Attributes
    ----------
    store : Store
    receiver : Receiver
    """

    store: Store
    receiver: Receiver
    _host: str = field(default_factory=host_name)
    _failures: int = 0
    _not_before: float = 0.0

    def step(self, now: datetime) -> None:  # noqa: ARG002 - a loop's step is told the time
        """Send until nothing is left; a repository that is away is asked again later."""
        if time.monotonic() < self._not_before:
            return
        try:
            while self.send_batch():
                pass
        except RepositoryAwayError as error:
            pause_s = min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
            self._failures = min(self._failures + 1, 10)
            self._not_before = time.monotonic() + pause_s
            log.warning("audit repository is away", error=str(error), again_in_s=pause_s)
            return
        if self._failures:
            log.info("audit repository is back")
        self._failures = 0

    def send_batch(self) -> bool:
        """Send the next rows; False where none wait or another process sends them.

        Raises
        ------
        RepositoryAwayError
            If the repository may not have them all: the next call sends them again.
        """
        with self.store.transaction() as session:
            number = trail.claim(session, NAME)
            if number is None:
                return False
            rows = trail.after(session, number, limit=AT_ONCE)
            if not rows:
                return False
            self.receiver.send(
                [
                    syslog_message(atna.message(row, host=self._host), at=row.at, host=self._host)
                    for row in rows
                ]
            )
            trail.arrived(session, NAME, rows[-1].number)
        return True

"""Studies of which an instance came with two contents: a person has to look, whatever the score says.

The first content is what is scored, the other is in quarantine, and both senders heard success. The names of
the quarantine's files say which instances these are, so nothing is missed while the database is away.
"""

import time
from dataclasses import dataclass, field

import structlog

from dicom_node.quarantine import conflicts
from dicom_node.spool import Spool
from service.store import Store, audit, flags
from service.study import CONTENT_CONFLICT

ACTOR = "node"
# File systems stamp folders in ticks of some milliseconds: a folder this young may change under its stamp.
SETTLED_NS = 2_000_000_000

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Conflicts:
    """Flags studies by what is in quarantine.

    Attributes
    ----------
    store : Store
    spool : Spool
    """

    store: Store
    spool: Spool
    _looked_at: int | None = field(default=None)
    _told: frozenset[tuple[str, str]] = field(default=frozenset())

    def step(self) -> None:
        """Look whether something new is in quarantine, and flag its study once that has a row."""
        changed_ns = self.spool.quarantined.stat().st_mtime_ns
        if changed_ns == self._looked_at:
            return
        found = conflicts(self.spool.quarantined)
        waiting = found - self._told
        told = self._flag(waiting) if waiting else frozenset()
        self._told = (self._told | told) & found
        if told == waiting and time.time_ns() - changed_ns > SETTLED_NS:
            self._looked_at = changed_ns

    def forget(self) -> None:
        """Look at everything again: the database may lack what was told it last."""
        self._looked_at, self._told = None, frozenset()

    def _flag(self, waiting: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Flag the studies of instances; return those that have a row."""
        with self.store.transaction() as session:
            is_own = flags.known_instances(session, waiting)
            keys = {key for (key, _), own in is_own.items() if not own}
            flagged = flags.flag(session, keys, CONTENT_CONFLICT)
            for key in flagged:
                audit.append(session, "study.flagged", actor=ACTOR, study_key=key, flag=CONTENT_CONFLICT)
        for key in flagged:
            log.error("an instance of a study came with two contents", study=key)
        return frozenset(is_own)

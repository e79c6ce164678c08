"""The head of the audit trail, kept in a file outside of the database.

Whoever can change the database can cut the trail's tail, or compute the whole chain anew; the trail alone
shows neither. The file does, at most `EVERY_S` behind. It is never replaced by the head of a trail that does
not hold what it says.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from dicom_node.durable import write_durably
from service.store import Store, audit
from service.store.audit import AuditBrokenError, AuditHead

FILE = "audit.head"
EVERY_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Witness:
    """Writes down the head of the trail, now and then.

    Attributes
    ----------
    store : Store
    folder : Path
        The data folder.
    """

    store: Store
    folder: Path
    _looked_at: float | None = None

    def step(self, now: datetime) -> None:  # noqa: ARG002 - a loop's step is told the time
        """Look every minute."""
        if self._looked_at is not None and time.monotonic() - self._looked_at < EVERY_S:
            return
        self._looked_at = time.monotonic()
        try:
            self.note()
        except AuditBrokenError as error:
            log.critical("audit trail was changed from outside", remedy=str(error))

    def note(self) -> None:
        """Write the head down.

        Raises
        ------
        AuditBrokenError
            If the trail does not hold the head that was written down before, which stays.
        """
        kept = read(self.folder)
        with self.store.transaction() as session:
            if kept is not None and not audit.holds(session, kept):
                raise AuditBrokenError(
                    f"The audit trail no longer has row {kept.number} as it was. {AuditBrokenError.__doc__}"
                )
            head = audit.head(session)
        if head != kept:
            write_durably(self.folder / FILE, f"{head}\n".encode("ascii"))


def read(folder: Path) -> AuditHead | None:
    """Head that was written down; None where there is none yet.

    Raises
    ------
    AuditBrokenError
        If the file holds something else.
    """
    try:
        return AuditHead.read((folder / FILE).read_text("ascii"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise AuditBrokenError(f"{FILE} holds no head. {AuditBrokenError.__doc__}") from error

"""Studies of a folder into the spool: a batch at a time, never more than the disk is allowed to hold.

Each batch is claimed, copied and said to be whole, in this order, so that a kill at any point leaves nothing
that a second run does not find: what is whole is not copied again, what is not is copied over itself.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from dicom_node.errors import SpoolFullError, UnreadableInstanceError
from dicom_node.importing import TOGETHER, Importable, copy_all, look
from dicom_node.spool import Spool, StoreKind, StoreOutcome
from service.screening.index import UNREADABLE, FoundStudy
from service.store import Store, cohorts, studies
from service.study import MemberState

SENDER = "VIGIL-SCREEN"
STUDIES, FILES = 128, 512  # of a batch, whichever is reached first
ROOM_S = 2.0  # between looks whether there is room again
CLAIM_AGAIN_S = 30.0  # a large study is claimed anew while it is copied

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Copier:
    """Copies studies of one cohort.

    Attributes
    ----------
    store : Store
    spool : Spool
    cohort_id : int
    stop : Event
    tell : callable
        Called with the studies that were dealt with since it was called last.
    tell_full : callable
        Called with whether it waits for room.
    files : Counter of str
        What became of the files, by code.
    """

    store: Store
    spool: Spool
    cohort_id: int
    stop: threading.Event
    tell: Callable[[int], None] = lambda _: None
    tell_full: Callable[[bool], None] = lambda _: None
    files: Counter[str] = field(default_factory=Counter)

    def run(self, found: Iterable[FoundStudy]) -> None:
        """Copy what is not here yet, until `stop` is set."""
        for batch in _batches(found):
            if self.stop.is_set():
                return
            self._copy(batch)
            self.tell(len(batch))

    def _copy(self, batch: Sequence[FoundStudy]) -> None:
        wanted = {self.spool.key_of(study.study_uid): study for study in batch}
        keys = sorted(wanted)
        with self.store.transaction() as session:
            settled = cohorts.settled(session, self.cohort_id, keys)
            known = studies.known_files(session, keys)
            here = {
                key: len(study.names)
                for key, study in wanted.items()
                if study.names <= known[key] and settled.get(key, -1) < len(study.names)
            }
            cohorts.have(session, self.cohort_id, here, state=MemberState.TAKEN)
            missing = [
                key for key in keys if key not in here and settled.get(key, -1) < len(wanted[key].names)
            ]
            cohorts.want(session, self.cohort_id, missing)
        self.files["known"] += sum(here.values())
        names: dict[str, set[str]] = {key: set() for key in missing}
        if not self._copy_files([path for key in missing for path in wanted[key].paths], names):
            return
        with self.store.transaction() as session:
            cohorts.have(session, self.cohort_id, {key: len(found) for key, found in names.items() if found})
            cohorts.leave_out(
                session, self.cohort_id, {key: UNREADABLE for key, found in names.items() if not found}
            )

    def _copy_files(self, paths: Sequence[Path], names: dict[str, set[str]]) -> bool:
        """Copy files of claimed studies, noting what the spool has of each; False where `stop` came first."""
        claimed = time.monotonic()
        for start in range(0, len(paths), TOGETHER):
            files = [one for path in paths[start : start + TOGETHER] if (one := self._look(path))]
            if not self._keep(files, names):
                return False
            if time.monotonic() - claimed > CLAIM_AGAIN_S:
                claimed = time.monotonic()
                with self.store.transaction() as session:
                    cohorts.want(session, self.cohort_id, names)
        return True

    def _look(self, path: Path) -> Importable | None:
        try:
            return look(path)
        except (UnreadableInstanceError, OSError):
            self.files[UNREADABLE] += 1
            return None

    def _keep(self, files: Sequence[Importable], names: dict[str, set[str]]) -> bool:
        """Copy some files, waiting for room as long as it takes; False where `stop` came first."""
        is_waiting = False
        while not self.stop.is_set():
            try:
                if self.spool.has_room():
                    self._note(copy_all(self.spool, files, sender=SENDER), names)
                    if is_waiting:
                        self.tell_full(False)
                    return True
            except SpoolFullError:
                pass
            except (UnreadableInstanceError, OSError):  # changed since it was looked at: one by one
                if len(files) == 1:
                    self.files[UNREADABLE] += 1
                    return True
                return all(self._keep([one], names) for one in files)
            if not is_waiting:
                is_waiting = True
                self.tell_full(True)
            self.stop.wait(ROOM_S)
        return False

    def _note(self, outcomes: Sequence[StoreOutcome], names: dict[str, set[str]]) -> None:
        self.files.update(outcome.kind.value for outcome in outcomes)
        for outcome in outcomes:
            if outcome.study_key in names:  # or the file is another than it was when it was looked at
                names[outcome.study_key].add(outcome.file_name)
            if outcome.kind is StoreKind.CONFLICT:
                log.warning("second data set under a known UID, kept in quarantine", study=outcome.study_key)


def _batches(found: Iterable[FoundStudy]) -> Iterator[list[FoundStudy]]:
    batch: list[FoundStudy] = []
    files = 0
    for study in found:
        batch.append(study)
        files += len(study.paths)
        if len(batch) >= STUDIES or files >= FILES:
            yield batch
            batch, files = [], 0
    if batch:
        yield batch

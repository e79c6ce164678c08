"""Studies of a list or of a query, fetched from a peer one after the other; what fails is tried again."""

import csv
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import structlog

from dicom_node.errors import DicomNodeError
from dicom_node.identity import is_uid
from dicom_node.line import line_to
from dicom_node.peer import Peer, Pull
from dicom_node.services.dicomweb import WebPeer
from dicom_node.services.query import studies_of
from dicom_node.spool import Spool
from service.errors import SettingsError
from service.pull import fetch_study
from service.store import Store, cohorts
from service.study import MemberState

NOT_FOUND, NOT_FETCHED, INCOMPLETE = "not_found", "not_fetched", "incomplete"
TRIES = 3
PAUSE_S = 5.0  # before the second try; longer before the third
COLUMNS = ("study_instance_uid", "accession_number", "studyinstanceuid", "accessionnumber")
ROOM_S = 2.0

log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Query:
    """A DICOMweb search: the base address of the services, and what is asked."""

    base: str
    query: dict[str, str]

    @classmethod
    def of(cls, url: str) -> "Query":
        """Read ``https://host/dicom-web/studies?Modality=MR``.

        Raises
        ------
        SettingsError
            If it is no search for studies.
        """
        parts = urlsplit(url)
        base, found, rest = parts.path.rpartition("/studies")
        if not found or rest.strip("/") or parts.username is not None:
            raise SettingsError(
                "A DICOMweb source is the address of a search for studies, without credentials, such as "
                "https://archive/dicom-web/studies?ModalitiesInStudy=MR."
            )
        return cls(urlunsplit((parts.scheme, parts.netloc, base, "", "")), dict(parse_qsl(parts.query)))


def read_list(path: Path) -> Iterator[str]:
    """Accession numbers or Study Instance UIDs of a text or CSV file, each once.

    The first line may name columns: then the one of `COLUMNS` counts, else the first.
    """
    seen: set[str] = set()
    with path.open(encoding="utf-8-sig", newline="") as file:
        column = 0
        for number, row in enumerate(csv.reader(file)):
            names = [cell.strip().lower() for cell in row]
            wanted = next((names.index(name) for name in COLUMNS if name in names), None)
            if number == 0 and wanted is not None:
                column = wanted
                continue
            value = row[column].strip() if len(row) > column else ""
            if value and value not in seen:
                seen.add(value)
                yield value


@dataclass(slots=True, kw_only=True)
class Fetcher:
    """Fetches the studies of one cohort from a peer.

    Attributes
    ----------
    store : Store
    spool : Spool
    cohort_id : int
    peer : Peer
    way : Pull
    aet : str
        Our own AE title.
    max_instance_bytes : int
    stop : Event
    tell : callable
        Called with 1 for each study dealt with.
    pause_s : float
    """

    store: Store
    spool: Spool
    cohort_id: int
    peer: Peer
    way: Pull
    aet: str
    max_instance_bytes: int
    stop: threading.Event
    tell: Callable[[int], None] = lambda _: None
    pause_s: float = PAUSE_S

    def run(self, wanted: Iterable[str]) -> None:
        """Fetch what is not here yet, until `stop` is set.

        Parameters
        ----------
        wanted : iterable of str
            Study Instance UIDs, or accession numbers.
        """
        for name in wanted:
            for study_uid in self._studies_of(name):
                while not self.spool.has_room() and not self.stop.wait(ROOM_S):
                    continue
                if self.stop.is_set():
                    return
                self._fetch(study_uid)
            self.tell(1)

    def _studies_of(self, name: str) -> tuple[str, ...]:
        if is_uid(name) and "." in name:
            return (name,)
        found = self._tried(lambda: self._search(name))
        if not found and not self.stop.is_set():
            self._leave_out(
                self.spool.key_of(f"accession {name}"), NOT_FETCHED if found is None else NOT_FOUND
            )
        return found or ()

    def _search(self, accession: str) -> tuple[str, ...]:
        if self.peer.protocol == "dicomweb":
            return WebPeer.of(self.peer).studies_of(accession)
        return tuple(studies_of(line_to(self.peer, calling_aet=self.aet), accession))

    def _fetch(self, study_uid: str) -> None:
        key = self.spool.key_of(study_uid)
        with self.store.transaction() as session:
            if cohorts.settled(session, self.cohort_id, [key]):
                return
            if cohorts.has_ended(session, key):
                cohorts.have(
                    session, self.cohort_id, {key: cohorts.held(session, key)}, state=MemberState.TAKEN
                )
                return
            cohorts.want(session, self.cohort_id, [key])
        pulled = self._tried(
            lambda: fetch_study(
                self.peer,
                study_uid,
                self.spool,
                way=self.way,
                aet=self.aet,
                max_instance_bytes=self.max_instance_bytes,
            )
        )
        if self.stop.is_set() and pulled is None:
            return
        if pulled is None or pulled.failed or not pulled.completed:
            reason = NOT_FETCHED if pulled is None else INCOMPLETE if pulled.failed else NOT_FOUND
            self._leave_out(key, reason)
            return
        # By C-MOVE they come through the receiver and stand in the spool a little later.
        here = len(self.spool.instances(key)) if self.way is not Pull.MOVE else 0
        with self.store.transaction() as session:
            cohorts.have(session, self.cohort_id, {key: max(here, pulled.completed)})

    def _leave_out(self, mark: str, reason: str) -> None:
        with self.store.transaction() as session:
            cohorts.leave_out(session, self.cohort_id, {mark: reason})

    def _tried(self, ask: Callable[[], _T]) -> _T | None:
        """Ask up to `TRIES` times; None where that was of no use, or `stop` is set."""
        for number in range(1, TRIES + 1):
            try:
                return ask()
            except (DicomNodeError, OSError) as error:
                log.warning("the peer did not answer", peer=self.peer.name, error=type(error).__name__)
            if self.stop.wait(self.pause_s * number if number < TRIES else 0.0):
                break
        return None

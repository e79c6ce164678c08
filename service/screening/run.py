"""From a source to a report: gather, wait until all have ended, write. Run again, it goes on where it was."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dicom_node.peer import Peer, Pull
from dicom_node.peer import Role as PeerRole
from dicom_node.services.dicomweb import WebPeer
from service.engine import DATABASE_AWAY
from service.errors import DatabaseError, RoleFailedError, SettingsError
from service.reception import MB, open_peers, open_spool
from service.screening.copying import Copier
from service.screening.fetching import Fetcher, Query, read_list
from service.screening.index import Index
from service.screening.machine import running
from service.settings import Settings
from service.store import Store, cohorts
from service.store.cohorts import Cohort, Progress
from service.study import CohortState

ACTOR = "screen"
LOOK_S = 1.0  # between two looks how far it is
AGAIN_S = 2.0  # before it is tried again when the database went away
PATIENCE_S = 120.0  # without a database


class Watcher(Protocol):
    """Who is told how it goes."""

    def say(self, line: str) -> None:
        """Take one line for a person."""

    def looked(self, files: int) -> None:
        """Take how many files were looked at."""

    def gathering(self, total: int | None) -> None:
        """Take how many studies are to be gathered; None: nobody knows."""

    def gathered(self, studies: int) -> None:
        """Take how many more were dealt with."""

    def progressed(self, progress: Progress) -> None:
        """Take how far the cohort is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the studies come from.

    Attributes
    ----------
    given : str
        A folder, a file with a list, or the address of a DICOMweb search.
    peer : str, optional
        Name of the peer that a list is fetched from.
    way : Pull
    authorization : Path, optional
        File whose one line is the HTTP header *Authorization* of a DICOMweb search.
    """

    given: str
    peer: str | None = None
    way: Pull = Pull.GET
    authorization: Path | None = None

    @property
    def is_web(self) -> bool:
        """Whether it is a DICOMweb search."""
        return self.given.startswith(("http://", "https://"))

    def check(self) -> None:
        """Refuse a source that cannot be read.

        Raises
        ------
        SettingsError
            Naming what to give instead.
        """
        if self.is_web:
            Query.of(self.given)
        elif Path(self.given).is_file():
            if self.peer is None:
                raise SettingsError("A list needs a peer that it is fetched from: name it with --from.")
        elif not Path(self.given).is_dir():
            raise SettingsError(
                "SOURCE is neither a folder, nor a file with a list, nor the address of a DICOMweb search."
            )

    def digest(self, key_of: Callable[[str], str]) -> str:
        """Pseudonym of the source: the same again is the same cohort."""
        if self.is_web:
            return key_of(f"screen web {self.given}")
        path = Path(self.given).resolve()
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            return key_of(f"screen list {content} {self.peer}")
        return key_of(f"screen folder {path}")


@dataclass(slots=True, kw_only=True)
class Screening:
    """One run of ``vigil screen``.

    Attributes
    ----------
    settings : Settings
    source : Source
    name : str
    q : float
    stop : Event
    watcher : Watcher
    report : callable
        Writes the report of a cohort that has ended.
    """

    settings: Settings
    source: Source
    name: str
    q: float
    stop: threading.Event
    watcher: Watcher
    report: Callable[[Store, Cohort], None]
    _files: Counter[str] = field(default_factory=Counter)

    def run(self) -> Progress | None:
        """Do all of it.

        Returns
        -------
        Progress or None
            None where `stop` came first.

        Raises
        ------
        TriageError
            If it cannot go on; the message says what to do.
        """
        self.source.check()
        away_since: float | None = None
        while not self.stop.is_set():
            try:
                with running(self.settings, self.watcher.say) as store:
                    away_since = None
                    return self._work(store)
            except (*DATABASE_AWAY, DatabaseError, RoleFailedError):
                # Of a Vigil that is being stopped or restarted; nothing is lost, for all can be done again.
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > PATIENCE_S:
                    raise
                self.watcher.say("The database is away: trying again.")
                self.stop.wait(AGAIN_S)
        return None

    def _work(self, store: Store) -> Progress | None:
        spool = open_spool(self.settings)
        self._files = Counter()
        with store.transaction() as session:
            cohort = cohorts.begin(
                session, name=self.name, source=self.source.digest(spool.key_of), q=self.q, actor=ACTOR
            )
        progress = threading.Event()
        follower = threading.Thread(target=self._follow, args=(store, cohort.id, progress), name="progress")
        follower.start()
        try:
            self._gather(store, cohort.id)
        finally:
            progress.set()
            follower.join()
        if self.stop.is_set():
            return None
        with store.transaction() as session:
            cohorts.leave_out_the_rest(session, cohort.id)
        self._move(store, cohort.id, CohortState.GATHERED)
        ended = self._wait(store, cohort.id)
        if ended is not None:
            self._move(store, cohort.id, CohortState.ENDED)
            with store.transaction() as session:
                cohort = cohorts.one(session, cohort.id)
            self.report(store, cohort)
        return ended

    def _move(self, store: Store, cohort_id: int, state: CohortState) -> None:
        with store.transaction() as session:
            cohorts.move(session, cohort_id, state, files=self._files, actor=ACTOR)

    def _gather(self, store: Store, cohort_id: int) -> None:
        spool = open_spool(self.settings)
        if self.source.is_web or Path(self.source.given).is_file():
            peer, wanted, total = self._wanted()
            self.watcher.gathering(total)
            Fetcher(
                store=store,
                spool=spool,
                cohort_id=cohort_id,
                peer=peer,
                way=self.source.way,
                aet=self.settings.aet,
                max_instance_bytes=self.settings.max_instance_mb * MB,
                stop=self.stop,
                tell=self.watcher.gathered,
            ).run(wanted())
            return
        with Index() as index:
            index.read(Path(self.source.given), go_on=self._looked)
            if self.stop.is_set():
                return
            self.watcher.gathering(index.studies)
            copier = Copier(
                store=store,
                spool=spool,
                cohort_id=cohort_id,
                stop=self.stop,
                tell=self.watcher.gathered,
                tell_full=self._full,
            )
            copier.run(index)
            self._files.update(index.left_out)
            self._files.update(copier.files)

    def _looked(self, files: int) -> bool:
        self.watcher.looked(files)
        return not self.stop.is_set()

    def _wanted(self) -> tuple[Peer, Callable[[], Iterable[str]], int | None]:
        if self.source.is_web:
            query = Query.of(self.source.given)
            peer = Peer(
                name="dicomweb",
                roles=frozenset({PeerRole.ARCHIVE}),
                protocol="dicomweb",
                host="",
                url=query.base,
                authorization=self.source.authorization,
            )
            return peer, lambda: WebPeer.of(peer).search_studies(query.query), None
        path = Path(self.source.given)
        peer = open_peers(self.settings).named(str(self.source.peer))
        return peer, lambda: read_list(path), sum(1 for _ in read_list(path))

    def _full(self, is_full: bool) -> None:
        if is_full:
            self.watcher.say(
                "The spool is full (VIGIL_SPOOL_QUOTA_MB, VIGIL_FREE_MARK_MB): copying waits until studies "
                "that have ended are deleted (VIGIL_KEEP_SCORED_DAYS), or until there is more room."
            )
        else:
            self.watcher.say("There is room again.")

    def _follow(self, store: Store, cohort_id: int, over: threading.Event) -> None:
        """Tell how far the workers are while studies are still being gathered."""
        while not over.wait(LOOK_S):
            try:
                with store.transaction() as session:
                    self.watcher.progressed(cohorts.progress(session, cohort_id))
            except DATABASE_AWAY:
                return  # whoever gathers finds out, too

    def _wait(self, store: Store, cohort_id: int) -> Progress | None:
        while not self.stop.is_set():
            with store.transaction() as session:
                cohorts.settle(session, cohort_id)
                progress = cohorts.progress(session, cohort_id)
            self.watcher.progressed(progress)
            if progress.is_over:
                return progress
            self.stop.wait(LOOK_S)
        return None

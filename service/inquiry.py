"""What peers say about a study when asked: how many instances an archive holds, how urgent its order is.

Asked in a thread of its own, so that a peer that is away delays nobody: the intake only reads what has been
answered.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from dicom_node.errors import DeliveryError, UnreadableInstanceError
from dicom_node.identity import series_key
from dicom_node.keys import ReceivedHeader
from dicom_node.line import line_to
from dicom_node.peers import Peer, Peers, Role
from dicom_node.services.dicomweb import WebPeer
from dicom_node.services.modality_worklist import ordered_priority
from dicom_node.services.query import series_counts
from dicom_node.spool import Spool
from service.study import Priority

ASK_AGAIN_S = 10.0  # between two questions about one study
REST_S = 60.0  # before a peer that did not answer is asked again
POLL_S = 0.5
MOST_STUDIES = 1000  # asked about at a time
FORGOTTEN_S = 60.0  # after the intake last asked about a study

PRIORITIES = {"STAT": Priority.STAT, "HIGH": Priority.URGENT}  # all others are routine

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Asked:
    """One study the intake wants to know about."""

    wanted_at: float
    due: float = 0.0
    last: Mapping[str, int] | None = None
    steady: Mapping[str, int] | None = None  # answered twice in a row
    is_ordered: bool = False  # its order has been looked up
    priority: Priority | None = None


@dataclass(slots=True, kw_only=True)
class Inquiry:
    """Asks archives and worklists about studies that wait.

    Attributes
    ----------
    peers : Peers
        Those with the roles *archive* and *worklist* are asked.
    spool : Spool
    calling_aet : str
        Our own AE title.
    in_background : bool
        False leaves it to the caller to call `step`.
    """

    peers: Peers
    spool: Spool
    calling_aet: str
    in_background: bool = True
    _studies: dict[str, _Asked] = field(default_factory=dict)
    _rests_until: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    @property
    def is_needed(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self.peers.with_role(Role.ARCHIVE) or self.peers.with_role(Role.WORKLIST))

    def counts(self, key: str) -> Mapping[str, int] | None:
        """Instances the archives hold by the series' pseudonym; None while none has said the same twice."""
        asked = self._want(key)
        return asked.steady if asked else None

    def priority(self, key: str) -> Priority | None:
        """How urgent the study's order is; None where it is not more than routine, or not known yet."""
        asked = self._want(key)
        return asked.priority if asked else None

    def step(self) -> None:
        """Ask about every study whose turn it is."""
        now = time.monotonic()
        with self._lock:
            for key in [key for key, one in self._studies.items() if now - one.wanted_at > FORGOTTEN_S]:
                del self._studies[key]
            due = [(key, one) for key, one in self._studies.items() if one.due <= now]
        for key, asked in due:
            asked.due = time.monotonic() + ASK_AGAIN_S
            header = self._header(key)
            if header is not None:
                self._ask(asked, header)

    def _want(self, key: str) -> _Asked | None:
        if not self.is_needed:
            return None
        with self._lock:
            asked = self._studies.get(key)
            if asked is None:
                if len(self._studies) >= MOST_STUDIES:
                    return None
                asked = self._studies[key] = _Asked(time.monotonic())
            asked.wanted_at = time.monotonic()
        if self.in_background and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="inquiry", daemon=True)
            self._thread.start()
        return asked

    def _run(self) -> None:
        while True:
            try:
                self.step()
            except Exception:  # the intake goes on without answers
                log.exception("inquiry failed")
            time.sleep(POLL_S)

    def _header(self, key: str) -> ReceivedHeader | None:
        for instance in self.spool.instances(key):
            try:
                header = instance.header()
            except (UnreadableInstanceError, OSError):
                continue
            if not header.is_own:
                return header
        return None

    def _ask(self, asked: _Asked, header: ReceivedHeader) -> None:
        total: dict[str, int] = {}
        has_answer = False
        for peer in self._awake(Role.ARCHIVE):
            try:
                found = _counts(peer, header.study_uid, self.calling_aet)
            except DeliveryError as error:
                self._rest(peer, error)
                continue
            has_answer = True
            for uid, count in found.items():
                total[series_key(uid)] = max(total.get(series_key(uid), 0), count)
        if has_answer:
            asked.steady = total if total == asked.last else None
            asked.last = total
        if asked.is_ordered or not header.accession_number:
            return
        for peer in self._awake(Role.WORKLIST):
            try:
                stated = ordered_priority(
                    line_to(peer, calling_aet=self.calling_aet), header.accession_number
                )
            except DeliveryError as error:
                self._rest(peer, error)
                continue
            asked.is_ordered = True
            asked.priority = PRIORITIES.get(stated or "") or asked.priority

    def _awake(self, role: Role) -> list[Peer]:
        now = time.monotonic()
        return [peer for peer in self.peers.with_role(role) if self._rests_until.get(peer.name, 0.0) <= now]

    def _rest(self, peer: Peer, error: DeliveryError) -> None:
        self._rests_until[peer.name] = time.monotonic() + REST_S
        log.warning("peer does not answer a question", peer=peer.name, error=str(error))


def _counts(peer: Peer, study_uid: str, calling_aet: str) -> Mapping[str, int]:
    if peer.protocol == "dicomweb":
        return WebPeer.of(peer).series_counts(study_uid)
    return series_counts(line_to(peer, calling_aet=calling_aet), study_uid)

"""Studies that an archive says it has are fetched from it, where its profile asks for that.

The receiver only writes down what it was told. A thread of the node fetches, so that an archive that is away
holds up nobody; what was not fetched is tried again for a day.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from dicom_node.errors import DeliveryError, DicomNodeError, UnknownPeerError
from dicom_node.line import line_to
from dicom_node.peer import Peer, Pull
from dicom_node.peers import Peers
from dicom_node.pulls import Pulls, Wanted
from dicom_node.services.dicomweb import WebPeer
from dicom_node.services.landing import land_study
from dicom_node.services.retrieve import Pulled, get_study, move_study
from dicom_node.signals import SignalKind, Signals, missing
from dicom_node.spool import Spool

SETTLE_S = 5.0  # before a study is fetched: its archive may be about to send it
LOOK_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 1800.0
GIVEN_UP_AFTER_S = 86_400.0
STOP_S = 2.0  # for a fetch under way; it is taken up again after the next start

log = structlog.get_logger(__name__)


def fetch_study(
    archive: Peer, study_uid: str, spool: Spool, *, way: Pull, aet: str, max_instance_bytes: int
) -> Pulled:
    """Fetch one study from an archive.

    Parameters
    ----------
    archive : Peer
    study_uid : str
    spool : Spool
    way : Pull
        A peer that speaks DICOMweb is asked by WADO-RS, whatever it says.
    aet : str
        Our own AE title.
    max_instance_bytes : int

    Raises
    ------
    DeliveryError, MalformedMessageError
        If the archive does not send it.
    """
    if archive.protocol == "dicomweb":
        events = WebPeer.of(archive).retrieve_study(study_uid)
        landed = land_study(events, spool, source=archive.aet or archive.name, limit=max_instance_bytes)
        failed = sum(one.failure is not None for one in landed)
        return Pulled(completed=len(landed) - failed, failed=failed)
    line = line_to(archive, calling_aet=aet)
    if way is Pull.MOVE:
        return move_study(line, study_uid, destination_aet=aet)
    return get_study(line, study_uid, spool)


@dataclass(slots=True, kw_only=True)
class Puller:
    """Fetches what archives announced and what is not here.

    Attributes
    ----------
    pulls : Pulls
    peers : Peers
    spool : Spool
    signals : Signals
    aet : str
        Our own AE title.
    max_instance_bytes : int
    settle_s : float
    """

    pulls: Pulls
    peers: Peers
    spool: Spool
    signals: Signals
    aet: str
    max_instance_bytes: int
    settle_s: float = SETTLE_S
    _due: dict[str, tuple[float, float]] = field(default_factory=dict)  # by file: when again, and the pause

    def run(self, stop: threading.Event) -> None:
        """Fetch until `stop` is set."""
        while not stop.wait(LOOK_S):
            try:
                self.step(stop)
            except Exception:  # the node receives without this thread, but not for long unnoticed
                log.exception("studies are not fetched")
                stop.wait(FIRST_PAUSE_S)

    def step(self, stop: threading.Event) -> None:
        """Fetch every study whose turn it is."""
        waiting = self.pulls.waiting()
        names = {wanted.path.name for wanted in waiting}
        self._due = {name: due for name, due in self._due.items() if name in names}
        for wanted in waiting:
            due, pause = self._due.get(wanted.path.name, (0.0, FIRST_PAUSE_S))
            age_s = abs(time.time() - wanted.asked_at)  # the clock may be set
            if stop.is_set() or time.monotonic() < due or age_s < self.settle_s:
                continue
            if self._is_over(wanted, age_s):
                self.pulls.done(wanted)
            else:
                self._due[wanted.path.name] = (time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE_S))

    def _is_over(self, wanted: Wanted, age_s: float) -> bool:
        """Fetch one study; whether nothing is left to do for it."""
        key = self.spool.key_of(wanted.study_uid)
        try:
            archive = self.peers.named(wanted.peer)
        except UnknownPeerError:
            return True
        if archive.pull is None or not self._missing(key):
            return True
        if age_s > GIVEN_UP_AFTER_S:
            log.error("study not fetched: the archive did not send it for a day", study=key, peer=wanted.peer)
            return True
        try:
            pulled = fetch_study(
                archive,
                wanted.study_uid,
                self.spool,
                way=archive.pull,
                aet=self.aet,
                max_instance_bytes=self.max_instance_bytes,
            )
        except (DicomNodeError, OSError) as error:
            told = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            log.warning("study not fetched yet", study=key, peer=wanted.peer, error=told)
            return False
        log.info(
            "study fetched", study=key, peer=wanted.peer, instances=pulled.completed, failed=pulled.failed
        )
        return not pulled.failed

    def _missing(self, key: str) -> int:
        """How many instances an archive announced that are not here."""
        announced = [one for one in self.signals.of(key) if one.kind is SignalKind.AVAILABILITY]
        return missing(announced, frozenset(one.file_name for one in self.spool.instances(key)))


@contextmanager
def pulling(puller: Puller) -> Iterator[None]:
    """Fetch on a thread until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=puller.run, args=[stop], name="pull", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_S)

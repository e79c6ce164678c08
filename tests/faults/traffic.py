"""A mixed load of small studies, and the ledger of every instance a sender was told is safe."""

import hashlib
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage

from tests.end_to_end.machine import SCANNER
from tests.phantoms import Phantom, mr_image, uid, write

PATIENT = "Phantom^One"  # in every study; it may stand in no log
SENDERS = 3  # associations at once
PAUSE_S = (0.5, 2.0)  # of a sender between two studies
GIVE_UP_S = 240.0  # for a sender to get its study over
KINDS = ("plain", "plain", "late", "unassessable", "twice", "plain", "stat")
FIRST_PART = 4  # instances of a late study that come in time


@dataclass(frozen=True, slots=True, kw_only=True)
class SentStudy:
    """One study on the sender's disk.

    Attributes
    ----------
    kind : str
        One of `KINDS`: what is particular about it.
    digests : dict of Path to str
        SHA-256 of each file's data set, as it goes over the wire.
    """

    kind: str
    study_uid: str
    digests: dict[Path, str]

    @property
    def paths(self) -> list[Path]:
        return list(self.digests)


@dataclass(slots=True)
class Ledger:
    """What senders were told. An entry is a promise that no fault may break.

    Attributes
    ----------
    instances : dict of str to str
        Digest of each acknowledged data set to its study's UID.
    """

    instances: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, digest: str, study_uid: str) -> None:
        with self._lock:
            self.instances[digest] = study_uid

    @property
    def studies(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self.instances.values())


def data_set_digest(part10: bytes) -> str:
    """SHA-256 behind the file meta information, whose length stands at its beginning (PS3.10 table 7.1-1)."""
    if part10[128:132] != b"DICM":
        raise ValueError("no Part 10 file")
    return hashlib.sha256(part10[144 + int.from_bytes(part10[140:144], "little") :]).hexdigest()


def make_study(folder: Path, name: str, kind: str, *, size: int = 16) -> SentStudy:
    """Write a study named by `name` alone: the same name gives the same bytes."""
    if kind == "unassessable":
        image = mr_image(name, 0, np.full((size, size), 100, np.uint16))
        image.Modality = "CT"
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        datasets = [image]
    else:
        datasets = Phantom(shape=(6, size, size), name=name).datasets()
    paths = write(folder / name, datasets)
    return SentStudy(
        kind=kind,
        study_uid=uid(name, "study"),
        digests={path: data_set_digest(path.read_bytes()) for path in paths},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends with dcmtk as a scanner does: again, until the node has said that it has every image.

    Attributes
    ----------
    host : str
    port : int
    ledger : Ledger
    prefix : tuple of str
        Command that the tool is run under.
    """

    port: int
    ledger: Ledger
    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()

    def send(self, study: SentStudy, paths: list[Path] | None = None) -> None:
        """Return when every file is acknowledged."""
        left = study.paths if paths is None else paths
        deadline = time.monotonic() + GIVE_UP_S
        while left:
            told = self.send_once(left)
            for path in told:
                self.ledger.add(study.digests[path], study.study_uid)
            left = [path for path in left if path not in told]
            if left and time.monotonic() > deadline:
                raise TimeoutError(f"the node never took {len(left)} instances")
            if left:
                time.sleep(0.5)

    def send_once(self, paths: list[Path]) -> set[Path]:
        """One association; return the files whose success was answered."""
        done = subprocess.run(
            [
                *self.prefix, "storescu", "-v", "-R", "--no-halt", "-to", "5", "-ta", "20", "-td", "20",
                "-aec", "VIGIL", "-aet", SCANNER, self.host, str(self.port), *map(str, paths),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=GIVE_UP_S,
            check=False,
        )  # fmt: skip
        stored, current = set(), None
        for line in done.stdout.splitlines():
            if line.startswith("I: Sending file: "):
                current = Path(line.removeprefix("I: Sending file: "))
            elif line.startswith("I: Received Store Response (Success)") and current is not None:
                stored.add(current)
                current = None
        return stored


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Studies one after another, of all kinds.

    Attributes
    ----------
    folder : Path
        Of the files to send.
    sender : Sender
    quiet_s : float
        Period after which the node takes a study for complete.
    raise_priority : callable
        From a Study Instance UID: what a person does who calls for a study.
    name : str
        Begins the names of all studies: two loads share none.
    """

    folder: Path
    sender: Sender
    quiet_s: float
    raise_priority: Callable[[str], None]
    name: str
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_study(self) -> SentStudy:
        with self._lock:
            number, self._count = self._count, self._count + 1
        return make_study(self.folder, f"{self.name}-{number}", KINDS[number % len(KINDS)])

    def send_next(self) -> SentStudy:
        """Send one study in the way of its kind."""
        study = self.next_study()
        if study.kind == "late":
            self.sender.send(study, study.paths[:FIRST_PART])
            time.sleep(self.quiet_s + 2.0)
            self.sender.send(study, study.paths[FIRST_PART:])
        elif study.kind == "twice":
            twin = threading.Thread(target=self.sender.send, args=(study,))
            twin.start()
            self.sender.send(study)
            twin.join()
        else:
            self.sender.send(study)
        if study.kind == "stat":
            self.raise_priority(study.study_uid)
        return study

    def burst(self, count: int) -> None:
        """Send so many studies over several associations; return when all are acknowledged."""
        left = iter(range(count))
        with self._senders(lambda: next(left, None) is not None):
            pass

    @contextmanager
    def flowing(self, chance: random.Random) -> Iterator[None]:
        """Send study after study while the block runs, and finish what was begun."""
        over = threading.Event()
        with self._senders(lambda: not over.wait(chance.uniform(*PAUSE_S))):
            try:
                yield
            finally:
                over.set()

    @contextmanager
    def _senders(self, goes_on: Callable[[], bool]) -> Iterator[None]:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while goes_on():
                    self.send_next()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for us
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]

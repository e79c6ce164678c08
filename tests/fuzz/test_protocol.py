"""Recorded associations, damaged, against a running receiver: it lives, forgets and serves the next one.

A case is a function of its number: ``VIGIL_FUZZ_FIRST`` starts elsewhere, and the number stands in the
message of a failure.
"""

import gc
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import structlog

from dicom_node.errors import DestinationBusyError
from dicom_node.line import Line
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.scu import send_files, verify
from dicom_node.spool import Spool
from tests.fuzz.mutation import HEADER, Pdus, fragmented, mutated, split, values
from tests.fuzz.recording import recording
from tests.phantoms import Phantom, write

AET = "VIGIL"
log = structlog.get_logger(__name__)
SHORT_S, LONG_S = 3.0, 300.0
AT_ONCE = 16
FIRST = int(os.environ.get("VIGIL_FUZZ_FIRST", "0"))
NO_LINGER = struct.pack("ii", 1, 0)  # closed by a reset
SETTLED_S = 90.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)


@pytest.fixture
def receiver(spool: Spool) -> Iterator[Receiver]:
    with Receiver(
        spool, aet=AET, host="127.0.0.1", port=0, peers=Peers(), acse_timeout_s=5.0, network_timeout_s=5.0
    ) as running:
        yield running


@pytest.fixture
def recorded(receiver: Receiver, tmp_path: Path) -> list[Pdus]:
    """Conversations of our own sender, and of dcmtk where it is installed."""
    images = write(tmp_path / "images", Phantom(shape=(4, 90, 70), bright=(1, 2, 3)).datasets())
    with recording(receiver.port) as recorder:
        verify(entity(recorder.port))
        assert all(receipt.is_stored for receipt in send(images[:2], recorder.port))
        if shutil.which("storescu"):
            common = ["-aec", AET, "-aet", "SCANNER", "127.0.0.1", str(recorder.port)]
            for command in (
                ["echoscu", *common],
                ["storescu", *common, *map(str, images[2:])],
                ["storescu", "-pdu", "4096", *common, str(images[3])],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=60)
    conversations = [split(bytes(stream)) for stream in recorder.conversations]
    assert all(pdus[0][0] == 1 and len(pdus) >= 3 for pdus in conversations)
    return conversations


def entity(port: int) -> Line:
    return Line(host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet=AET)


def send(paths: list[Path], port: int) -> list:
    return list(send_files(paths, host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet=AET))


def say(port: int, words: bytes, chance: Random) -> bytes:
    """Say it as a peer does that does not wait for answers; what came back."""
    heard = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.settimeout(0.1)
        size = chance.choice((len(words) or 1, 4096, 100))
        if len(words) > 200 * size:
            size = len(words)
        for start in range(0, len(words), size):
            peer.sendall(words[start : start + size])
        if chance.random() < 0.2:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            return heard
        if chance.random() < 0.7:
            peer.shutdown(socket.SHUT_WR)
        while chunk := peer.recv(1 << 16):
            heard += chunk
    return heard


def fuzz(receiver: Receiver, recorded: list[Pdus], seconds: float) -> int:
    """Cases one after the other on a few threads for so long; how many there were."""
    deadline = time.monotonic() + seconds
    numbers = iter(range(FIRST, 1 << 62))
    lock = threading.Lock()

    def work() -> int:
        done = 0
        while time.monotonic() < deadline:
            with lock:
                number = next(numbers)
            chance = Random(number)  # noqa: S311 - repeatable, and no secret
            say(receiver.port, mutated(chance, recorded), chance)
            done += 1
        return done

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(future.result() for future in [pool.submit(work) for _ in range(AT_ONCE)])


def is_answered(receiver: Receiver) -> bool:
    try:
        verify(entity(receiver.port))
    except DestinationBusyError:
        return False
    return True


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def settles(condition: Callable[[], bool], within_s: float = SETTLED_S) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        gc.collect()
        time.sleep(0.2)
    return True


def attack(receiver: Receiver, spool: Spool, recorded: list[Pdus], seconds: float, tmp_path: Path) -> int:
    """Fuzz, then ask for everything that must still hold."""
    settles(lambda: threading.active_count() <= 2, 5.0)  # not asserted: other tests may have left threads
    before = descriptors(), threading.active_count()
    cases = fuzz(receiver, recorded, seconds)
    log.info("cases", count=cases, first=FIRST)
    assert settles(lambda: is_answered(receiver))  # at first the last cases may still hold every place
    good = write(tmp_path / "after", Phantom(name="after").datasets())
    assert all(receipt.is_stored for receipt in send(good, receiver.port))
    assert settles(lambda: threading.active_count() <= before[1]), threading.enumerate()
    assert settles(lambda: descriptors() <= before[0]), descriptors()
    assert settles(lambda: not any(spool.incoming.iterdir())), list(spool.incoming.iterdir())
    return cases


@pytest.mark.slow
def test_damaged_conversations_leave_nothing_behind_and_the_next_is_served(
    receiver: Receiver, spool: Spool, recorded: list[Pdus], tmp_path: Path
) -> None:
    assert attack(receiver, spool, recorded, SHORT_S, tmp_path) > 50


@pytest.mark.long
@pytest.mark.timeout(900)
def test_for_minutes_damaged_conversations_leave_nothing_behind(
    receiver: Receiver, spool: Spool, recorded: list[Pdus], tmp_path: Path
) -> None:
    assert attack(receiver, spool, recorded, LONG_S, tmp_path) > 2000


@pytest.mark.parametrize("seed", range(4))
def test_a_conversation_in_small_pieces_is_the_same_conversation(
    receiver: Receiver, recorded: list[Pdus], seed: int
) -> None:
    """Command sets and data sets may come in any number of fragments (PS3.8 9.3.5)."""
    chance = Random(seed)  # noqa: S311 - repeatable, and no secret
    for request, *rest in recorded:
        messages = split_messages(rest[:-1])
        assert messages
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as peer:
            assert answer(peer, [request])[0] == 2  # accepted
            for message in messages:
                (reply,) = values(answer(peer, fragmented(chance, message)))
                assert status(reply[2]) == 0
            assert answer(peer, rest[-1:])[0] == 6  # released


def split_messages(pdus: Pdus) -> list[Pdus]:
    """Messages of a conversation: each command with the data set behind it."""
    messages: list[Pdus] = []
    for one in pdus:
        if values(one)[0][1] & 1 and (not messages or values(messages[-1][-1])[-1][1] & 2):
            messages.append([])
        messages[-1].append(one)
    return messages


def answer(peer: socket.socket, pdus: Pdus) -> bytes:
    """Say it, and hear one PDU."""
    for one in pdus:
        peer.sendall(one)
    with peer.makefile("rb") as heard:
        header = heard.read(HEADER.size)
        return header + heard.read(HEADER.unpack(header)[2])


def status(command: bytes) -> int:
    """Status (0000,0900) of a response's command set, which is implicit little endian (PS3.7 6.3.1)."""
    place = command.index(struct.pack("<HHI", 0, 0x0900, 2))
    return int(struct.unpack_from("<H", command, place + 8)[0])

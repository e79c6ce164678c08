"""A whole node process against a network that means it harm: it lives, stays small, serves others."""

import shutil
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import MRImageStorage

from dicom_node.scu import verify
from tests.end_to_end.node import AET, Node, running_node

SETTLED_S = 90.0
GROWTH_MB = 24.0  # of a process that has served thousands: allocator and thread stacks, no more
BARE_CONNECTS = 1_000
MANY_BARE_CONNECTS = 10_000  # in the long suite

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("hostile") / "data") as started:
        yield started


def settles(node: Node, threads: int, descriptors: int) -> None:
    """Wait until nothing of the attack is left; a few threads belong to whoever was served last."""
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        if node.threads() <= threads and node.descriptors() <= descriptors and not node.unfinished():
            return
        time.sleep(0.2)
    assert node.threads() <= threads
    assert node.descriptors() <= descriptors
    assert node.unfinished() == []


def bare_connects(node: Node, count: int) -> None:
    for _ in range(count):
        node.connect().close()


def request(called: str = AET, contexts: int = 1) -> bytes:
    """A-ASSOCIATE-RQ for MR images (PS3.8 9.3.2)."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    proposed = b"".join(
        item(
            0x20,
            bytes([2 * n + 1, 0, 0, 0])
            + item(0x30, str(MRImageStorage).encode())
            + item(0x40, str(ExplicitVRLittleEndian).encode()),
        )
        for n in range(contexts)
    )
    user = item(0x50, item(0x51, struct.pack(">L", 16_384)) + item(0x52, b"1.2.3.4"))
    content = (
        struct.pack(">HH16s16s32s", 1, 0, called.ljust(16).encode(), b"SCANNER".ljust(16), b"")
        + item(0x10, b"1.2.840.10008.3.1.1.1")
        + proposed
        + user
    )
    return struct.pack(">BBL", 1, 0, len(content)) + content


def associate(node: Node) -> socket.socket:
    opened = node.connect()
    opened.sendall(request())
    assert opened.recv(65_536)[:1] == b"\x02", "not accepted"
    return opened


def pdv(fragment: bytes, *, control: int, context: int = 1) -> bytes:
    """P-DATA-TF of one fragment; control 3: last of a command, 1: of a command, 2: last of a data set."""
    value = struct.pack(">LBB", len(fragment) + 2, context, control) + fragment
    return struct.pack(">BBL", 4, 0, len(value)) + value


def command(elements: bytes) -> bytes:
    """Command set with its group length."""
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def element(number: int, value: bytes) -> bytes:
    padded = value + b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(padded)) + padded


def store_request(uid: str = "1.2.3") -> bytes:
    return command(
        element(0x0002, str(MRImageStorage).encode())
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", 1))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 0))
        + element(0x1000, uid.encode())
    )


def is_closed(opened: socket.socket) -> bool:
    """Whether the node ends the connection, with an abort or without."""
    with suppress(OSError):
        while received := opened.recv(4096):
            if received[:1] == b"\x07":
                return True
    return True


def test_bare_connects_leave_nothing_behind(node: Node, tmp_path: Path) -> None:
    bare_connects(node, 200)  # what is allocated once
    node.is_well(tmp_path / "before")
    time.sleep(1)
    before, threads, descriptors = node.resident_mb(), node.threads(), node.descriptors()

    bare_connects(node, BARE_CONNECTS)

    settles(node, threads, descriptors)
    assert node.resident_mb() - before < GROWTH_MB
    node.is_well(tmp_path / "after")


@pytest.mark.long
def test_ten_thousand_bare_connects_leave_nothing_behind(node: Node, tmp_path: Path) -> None:
    bare_connects(node, 500)
    time.sleep(1)
    before, threads, descriptors = node.resident_mb(), node.threads(), node.descriptors()

    bare_connects(node, MANY_BARE_CONNECTS)

    settles(node, threads, descriptors)
    assert node.resident_mb() - before < GROWTH_MB
    node.is_well(tmp_path / "after")


def test_peers_that_say_nothing_do_not_keep_others_out(node: Node, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for start in (b"", b"\x01", request()[:20]):
            for _ in range(8):
                stack.enter_context(node.connect()).sendall(start)

        node.is_well(tmp_path)


def test_a_flood_from_one_address_leaves_room_for_others(node: Node, tmp_path: Path) -> None:
    node.is_well(tmp_path / "before")
    time.sleep(1)
    threads, descriptors = node.threads(), node.descriptors()
    with ExitStack() as stack:
        answers = []
        for _ in range(200):
            opened = stack.enter_context(node.connect())
            with suppress(OSError):
                opened.sendall(request())
                answers.append(opened.recv(4096)[:1])
        assert 0 < answers.count(b"\x02") < 100

        other = stack.enter_context(node.connect(source="127.0.0.2"))
        other.sendall(request())
        assert other.recv(4096)[:1] == b"\x02"

    settles(node, threads, descriptors)
    node.is_well(tmp_path / "after")


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param([struct.pack(">BBL", 4, 0, 0xFFFF_FFF0)], id="endless PDU"),
        pytest.param(
            [struct.pack(">BBL", 4, 0, 6) + struct.pack(">LBB", 0xFFFF, 1, 3)], id="PDV beyond its PDU"
        ),
        pytest.param([struct.pack(">BBL", 4, 0, 4) + struct.pack(">L", 0)], id="empty PDV"),
        pytest.param([struct.pack(">BBL", 9, 0, 4) + b"\0" * 4], id="unknown PDU"),
        pytest.param([request()], id="second request"),
        pytest.param([pdv(b"\xff" * 64, control=3)], id="garbage for a command"),
        pytest.param([pdv(store_request(), control=3, context=99)], id="context never accepted"),
        pytest.param([pdv(b"\0" * 64, control=2)], id="data set without a command"),
        pytest.param(
            [pdv(store_request(), control=3), pdv(store_request(), control=3)], id="command for a data set"
        ),
        pytest.param([pdv(command(b""), control=3)], id="command that says nothing"),
    ],
)
def test_what_breaks_the_protocol_costs_its_sender_the_connection(
    node: Node, tmp_path: Path, attack: list[bytes]
) -> None:
    verify(node.entity)
    with associate(node) as opened:
        opened.sendall(b"".join(attack))
        opened.shutdown(socket.SHUT_WR)  # nothing more will come: whoever waits for it must give up

        assert is_closed(opened)

    node.is_well(tmp_path)
    assert node.unfinished() == []


def test_a_command_set_in_many_fragments_is_one_command(node: Node) -> None:
    whole = store_request("2.25.7")
    with associate(node) as opened:
        for byte in whole[:-1]:
            opened.sendall(pdv(bytes([byte]), control=1))
        opened.sendall(pdv(whole[-1:], control=3))
        opened.sendall(pdv(b"\0" * 16, control=2))

        answer = opened.recv(65_536)

    # The garbage of its data set is refused, not its framing.
    assert answer[:1] == b"\x04"
    status = answer[answer.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8 :][:2]
    assert struct.unpack("<H", status)[0] & 0xF000 in {0xA000, 0xC000}


def test_transfers_that_stop_half_way_leave_no_file(node: Node, tmp_path: Path) -> None:
    verify(node.entity)
    time.sleep(1)
    threads, descriptors = node.threads(), node.descriptors()
    for number in range(20):
        with associate(node) as opened:
            opened.sendall(pdv(store_request(f"2.25.{number}"), control=3))
            opened.sendall(pdv(b"\0" * 10_000, control=0))
            if number % 2:
                opened.sendall(struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0))  # A-ABORT

    settles(node, threads, descriptors)
    node.is_well(tmp_path)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_a_disk_without_room_for_the_log_still_takes_files(tmp_path: Path) -> None:
    with running_node(tmp_path / "data", prefix=("prlimit", "--fsize=1048576", "--")) as node:
        node.is_well(tmp_path / "sent")

    assert "no room for the log" in (tmp_path / "node.log").read_text()

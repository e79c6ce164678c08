"""Conversations in raw bytes: what the peer hears and what is stored must not depend on the way."""

import errno
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom.sop_class import Verification

from dicom_node import draft as draft_module
from dicom_node import scp
from dicom_node.caller import Caller
from dicom_node.draft import Draft
from dicom_node.line import Line
from dicom_node.peers import Peers
from dicom_node.receiving import exchange
from dicom_node.receiving.block import CAPACITY
from dicom_node.scp import Receiver
from dicom_node.spool import Spool
from dicom_node.wire import IS_COMMAND, IS_LAST, PDU_HEAD, PDV_HEAD, StoreRequest, encode_store_request, heads
from tests.phantoms import mr_image

AET = "VIGIL"
BOTH = pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "stock"])
FAST = pytest.mark.parametrize("is_fast", [True], ids=["fast"])
ECHO = (
    b"\x00\x00\x00\x00\x04\x00\x00\x00\x38\x00\x00\x00"
    b"\x00\x00\x02\x00\x12\x00\x00\x001.2.840.10008.1.1\x00"
    b"\x00\x00\x00\x01\x02\x00\x00\x00\x30\x00"
    b"\x00\x00\x10\x01\x02\x00\x00\x00\x07\x00"
    b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
)


class Talk:
    """An association with a receiver, in bytes."""

    def __init__(self, receiver: Receiver) -> None:
        entity = Line(host="127.0.0.1", port=receiver.port, calling_aet="SCANNER", called_aet=AET)
        contexts = {(str(uid), str(ExplicitVRLittleEndian)) for uid in (MRImageStorage, Verification)}
        self.caller = Caller.call(entity, contexts)
        self.connection: socket.socket = self.caller._connection
        self.connection.settimeout(30)
        self.storage = self.caller.accepted[str(MRImageStorage), str(ExplicitVRLittleEndian)]
        self.verification = self.caller.accepted[str(Verification), str(ExplicitVRLittleEndian)]

    def answer(self) -> bytes:
        """Next whole PDU."""
        head = self.connection.recv(PDU_HEAD.size, socket.MSG_WAITALL)
        return head + self.connection.recv(PDU_HEAD.unpack(head)[2], socket.MSG_WAITALL) if head else b""

    def status(self) -> int:
        answer = self.answer()
        at = answer.index(b"\x00\x00\x00\x09\x02\x00\x00\x00") + 8
        return struct.unpack_from("<H", answer, at)[0]  # type: ignore[no-any-return]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)


@contextmanager
def talking(spool: Spool, *, is_fast: bool, **limits: float) -> Iterator[tuple[Receiver, Talk]]:
    with Receiver(
        spool,
        aet=AET,
        host="127.0.0.1",
        port=0,
        peers=Peers(),
        is_fast=is_fast,
        **limits,  # type: ignore[arg-type]
    ) as receiver:
        talk = Talk(receiver)
        with talk.connection:
            yield receiver, talk


def data_set(number: int = 0, side: int = 16) -> tuple[str, bytes]:
    image = mr_image("exchange", number, np.full((side, side), number, np.uint16))
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, image)
    return str(image.SOPInstanceUID), buffer.getvalue()


def request(sop: str, message: int = 1) -> bytes:
    return encode_store_request(StoreRequest(message, str(MRImageStorage), sop))


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return PDV_HEAD.pack(len(data) + 2, context_id, control) + data


def pdu(*items: bytes) -> bytes:
    body = b"".join(items)
    return PDU_HEAD.pack(0x04, 0, len(body)) + body


def stored(spool: Spool) -> list[bytes]:
    return [found.path.read_bytes() for key, _ in spool.studies() for found in spool.instances(key)]


def framings(context_id: int, command: bytes, data: bytes) -> dict[str, bytes]:
    whole, last = IS_COMMAND | IS_LAST, IS_LAST
    half = len(data) // 2
    one = pdu(pdv(context_id, whole, command))
    return {
        "plain": one + pdu(pdv(context_id, last, data)),
        "command in pieces": pdu(pdv(context_id, IS_COMMAND, command[:50]))
        + pdu(pdv(context_id, whole, command[50:]))
        + pdu(pdv(context_id, last, data)),
        "command and data in one PDU": pdu(pdv(context_id, whole, command), pdv(context_id, last, data)),
        "two fragments in one PDU": one
        + pdu(pdv(context_id, 0, data[:half]), pdv(context_id, last, data[half:])),
        "an empty last fragment": one + pdu(pdv(context_id, 0, data)) + pdu(pdv(context_id, last, b"")),
        "crumbs": one
        + b"".join(
            pdu(pdv(context_id, last if at + 7 >= len(data) else 0, data[at : at + 7]))
            for at in range(0, len(data), 7)
        ),
    }


@BOTH
@pytest.mark.parametrize("framing", framings(1, b"x" * 60, b"x" * 100))
def test_however_a_data_set_is_cut_it_is_stored_whole(spool: Spool, framing: str, *, is_fast: bool) -> None:
    sop, data = data_set()
    with talking(spool, is_fast=is_fast) as (_, talk):
        for _ in range(2):  # what follows is understood too
            talk.connection.sendall(framings(talk.storage, request(sop), data)[framing])
            assert talk.status() == 0x0000
    (content,) = stored(spool)
    assert content.endswith(data)


def test_both_ways_answer_in_the_same_bytes(tmp_path: Path) -> None:
    sop, data = data_set()
    answers = {}
    for is_fast in (True, False):
        spool = Spool(tmp_path / str(is_fast) / "spool", b"s" * 32, free_mark_bytes=1)
        with talking(spool, is_fast=is_fast) as (_, talk):
            heard = []
            for announced, sent in ((sop, data), (sop, data), ("1.2.3", data), (sop, b"\xff" * 100)):
                talk.connection.sendall(framings(talk.storage, request(announced, 9), sent)["plain"])
                heard.append(talk.answer())
            talk.connection.sendall(pdu(pdv(talk.verification, IS_COMMAND | IS_LAST, ECHO)))
            heard.append(talk.answer())
            talk.connection.sendall(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")
            heard.append(talk.answer())
        answers[is_fast] = (
            heard,
            stored(spool),
            sorted(path.read_bytes() for path in (spool.incoming.parents[1] / "quarantine").iterdir()),
        )
    assert answers[True] == answers[False]
    assert len(answers[True][0]) == 6
    assert answers[True][0][-1] == b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"


@BOTH
def test_other_services_go_on_between_instances(spool: Spool, *, is_fast: bool) -> None:
    with talking(spool, is_fast=is_fast) as (_, talk):
        for number in range(3):
            sop, data = data_set(number)
            talk.connection.sendall(framings(talk.storage, request(sop), data)["plain"])
            assert talk.status() == 0x0000
            talk.connection.sendall(pdu(pdv(talk.verification, IS_COMMAND | IS_LAST, ECHO)))
            assert talk.status() == 0x0000
    assert len(stored(spool)) == 3


@BOTH
@pytest.mark.parametrize("end", [b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00", b""], ids=["abort", "cut"])
def test_an_end_inside_an_instance_leaves_nothing(spool: Spool, end: bytes, *, is_fast: bool) -> None:
    sop, data = data_set()
    with talking(spool, is_fast=is_fast) as (receiver, talk):
        command = pdu(pdv(talk.storage, IS_COMMAND | IS_LAST, request(sop)))
        talk.connection.sendall(command + pdu(pdv(talk.storage, 0, data)))
        time.sleep(0.1)
        if end:
            talk.connection.sendall(end)
            assert talk.connection.recv(64) == b""
        else:
            talk.connection.close()
        deadline = time.monotonic() + 30
        while list(spool.incoming.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert receiver.counters.snapshot() == {}
    assert stored(spool) == []
    assert list(spool.incoming.iterdir()) == []


@BOTH
def test_an_abort_right_behind_the_command_is_an_end(spool: Spool, *, is_fast: bool) -> None:
    sop, _ = data_set()
    with talking(spool, is_fast=is_fast) as (_, talk):
        talk.connection.sendall(pdu(pdv(talk.storage, IS_COMMAND | IS_LAST, request(sop))))
        talk.connection.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        assert talk.connection.recv(64) == b""  # long before the time a PDU may take


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As a disk that is full: no file of this process grows beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@BOTH
def test_a_disk_that_is_full_before_all_arrived_is_told_and_the_association_goes_on(
    spool: Spool, *, is_fast: bool
) -> None:
    large_sop, large = data_set(1, side=1200)
    small_sop, small = data_set(2)
    with talking(spool, is_fast=is_fast) as (receiver, talk):
        with largest_file(len(large) // 2):
            for _ in range(2):
                status = talk.caller.store_bytes(
                    large, context_id=talk.storage, sop_class=str(MRImageStorage), sop_instance=large_sop
                )
                assert status == 0xA700
        talk.connection.sendall(framings(talk.storage, request(small_sop), small)["plain"])
        assert talk.status() == 0x0000
        assert receiver.counters.snapshot() == {"refused_full": 2, "stored": 1}
    assert len(stored(spool)) == 1
    assert list(spool.incoming.iterdir()) == []


NONSENSE = {
    "a command": pdu(pdv(1, IS_COMMAND | IS_LAST, b"x" * 60)),
    "another context": pdu(pdv(99, IS_LAST, b"x" * 60)),
    "a release": b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00" + bytes(8),
    "longer than its PDU": struct.pack(">BBLLBB", 4, 0, 100, 2000, 1, 2) + bytes(94),
    "longer than a PDU may be": struct.pack(">BBLLBB", 4, 0, 2**31, 2**31 - 4, 1, 2),
}


@FAST
@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_inside_an_instance_ends_the_association(
    spool: Spool, nonsense: bytes, *, is_fast: bool
) -> None:
    sop, data = data_set()
    with talking(spool, is_fast=is_fast) as (receiver, talk):
        command = pdu(pdv(talk.storage, IS_COMMAND | IS_LAST, request(sop)))
        talk.connection.sendall(command + pdu(pdv(talk.storage, 0, data)))
        talk.connection.sendall(nonsense)
        assert talk.answer()[:1] in (b"\x07", b"")
        assert receiver.counters.snapshot() == {}
    assert stored(spool) == []


@FAST
def test_a_disk_that_fills_up_inside_an_instance_is_told_and_the_association_goes_on(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, *, is_fast: bool
) -> None:
    real_write = draft_module.os.write

    def full(_descriptor: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exchange, "CAPACITY", 1024 * 1024)
    large_sop, large = data_set(1, side=1200)
    small_sop, small = data_set(2)
    with talking(spool, is_fast=is_fast) as (receiver, talk):
        monkeypatch.setattr(draft_module.os, "write", full)
        status = talk.caller.store_bytes(
            large, context_id=talk.storage, sop_class=str(MRImageStorage), sop_instance=large_sop
        )
        assert status == 0xA700
        assert list(spool.incoming.iterdir()) == []
        monkeypatch.setattr(draft_module.os, "write", real_write)
        talk.connection.sendall(framings(talk.storage, request(small_sop), small)["plain"])
        assert talk.status() == 0x0000
        assert receiver.counters.snapshot() == {"refused_full": 1, "stored": 1}


@FAST
def test_a_large_instance_goes_to_the_disk_in_pieces(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, *, is_fast: bool
) -> None:
    pieces: list[int] = []
    real_write = Draft.write

    def write(draft: Draft, part: memoryview) -> None:
        pieces.append(len(part))
        real_write(draft, part)

    monkeypatch.setattr(Draft, "write", write)
    sop, data = data_set(1, side=4500)  # 40 MB
    with talking(spool, is_fast=is_fast) as (_, talk):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for expected in (0x0000, 0x0000):
            status = talk.caller.store_bytes(
                data, context_id=talk.storage, sop_class=str(MRImageStorage), sop_instance=sop
            )
            assert status == expected
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    (content,) = stored(spool)
    assert content.endswith(data)
    assert max(pieces) <= CAPACITY
    assert len(pieces) == 2 * 3
    assert grown < len(data)


@FAST
def test_a_peer_that_goes_silent_inside_an_instance_is_cut_off(spool: Spool, *, is_fast: bool) -> None:
    sop, data = data_set()
    with talking(spool, is_fast=is_fast, network_timeout_s=0.5) as (_, talk):
        command = pdu(pdv(talk.storage, IS_COMMAND | IS_LAST, request(sop)))
        talk.connection.sendall(command + heads(1000, talk.storage, 0) + data[:100])
        begun = time.monotonic()
        while talk.connection.recv(64):
            pass
        assert time.monotonic() - begun < 30
    assert stored(spool) == []


@FAST
def test_stopping_does_not_wait_for_a_peer_inside_an_instance(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, *, is_fast: bool
) -> None:
    monkeypatch.setattr(scp, "STOP_TIMEOUT_S", 60.0)
    sop, data = data_set()
    with talking(spool, is_fast=is_fast) as (receiver, talk):
        command = pdu(pdv(talk.storage, IS_COMMAND | IS_LAST, request(sop)))
        talk.connection.sendall(command + heads(1000, talk.storage, 0) + data[:100])
        time.sleep(0.1)
        begun = time.monotonic()
        receiver.stop()
        assert time.monotonic() - begun < 30

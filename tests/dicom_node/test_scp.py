import io
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.sop_class import Verification
from structlog.testing import capture_logs

from dicom_node.errors import PortInUseError
from dicom_node.flow import LONGEST_PDU
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.scu import send_files
from dicom_node.spool import Spool
from dicom_node.tallies import Tallies
from tests.phantoms import mr_image, write

AET = "VIGIL"
WAY = {"is_fast": True}
JPIP = "1.2.840.10008.1.2.4.94"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)


@pytest.fixture
def image() -> FileDataset:
    return mr_image("scp", 0, np.arange(64, dtype=np.uint16).reshape(8, 8))


@pytest.fixture(params=["fast", "stock"], autouse=True)
def way(request: pytest.FixtureRequest) -> str:
    """Every conversation is held both ways."""
    WAY["is_fast"] = request.param == "fast"
    return str(request.param)


@contextmanager
def receiving(spool: Spool, **changes: Any) -> Iterator[Receiver]:
    settings: dict[str, Any] = {"aet": AET, "host": "127.0.0.1", "port": 0, "peers": Peers()} | WAY | changes
    with Receiver(spool, **settings) as receiver:
        yield receiver


@contextmanager
def association(
    receiver: Receiver, *contexts: Any, calling: str = "SCANNER", called: str = AET
) -> Iterator[Any]:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    sockets: list[socket.socket] = []
    opened = entity.associate(
        "127.0.0.1",
        receiver.port,
        ae_title=called,
        contexts=list(contexts) or [build_context(Verification), build_context(MRImageStorage)],
        evt_handlers=[
            (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket)),
        ],
    )
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()
        for opened_socket in sockets:
            opened_socket.close()


def send(receiver: Receiver, paths: list[Path]) -> list[int | None]:
    receipts = send_files(paths, host="127.0.0.1", port=receiver.port, calling_aet="SCANNER", called_aet=AET)
    return [receipt.status for receipt in receipts]


def is_answered(receiver: Receiver) -> bool:
    """Whether C-ECHO is; where both of us wait for half a second alone, a slow machine may need another."""
    with association(receiver) as opened, suppress(RuntimeError):  # it was established
        return bool(opened.is_established and opened.send_c_echo().get("Status") == 0x0000)
    return False


def stored(spool: Spool) -> list[bytes]:
    return [found.path.read_bytes() for key, _ in spool.studies() for found in spool.instances(key)]


def data_set_of(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_the_data_set_is_stored_byte_for_byte(
    tmp_path: Path, spool: Spool, image: FileDataset, syntax: str
) -> None:
    if syntax == RLELossless:
        image.compress(RLELossless, generate_instance_uid=False)
    image.file_meta.TransferSyntaxUID = syntax
    paths = write(tmp_path / "sent", [image])

    with receiving(spool) as receiver:
        assert send(receiver, paths) == [0x0000]

    (content,) = stored(spool)
    assert data_set_of(content) == data_set_of(paths[0].read_bytes())
    ((key, _),) = spool.studies()
    header = spool.instances(key)[0].header()
    assert (header.transfer_syntax_uid, header.sender) == (syntax, "SCANNER")


def test_a_copy_is_answered_with_success_and_kept_once(
    tmp_path: Path, spool: Spool, image: FileDataset
) -> None:
    paths = write(tmp_path / "sent", [image])

    with receiving(spool) as receiver:
        assert send(receiver, paths * 3) == [0x0000] * 3
        assert receiver.counters.snapshot() == {"stored": 1, "duplicate": 2}
    assert len(stored(spool)) == 1


def test_below_the_free_space_mark_nothing_is_taken(tmp_path: Path, image: FileDataset) -> None:
    spool = Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1 << 62)

    with receiving(spool) as receiver:
        assert send(receiver, write(tmp_path / "sent", [image])) == [0xA700]
    assert stored(spool) == []
    assert list(spool.incoming.iterdir()) == []


def test_garbage_is_refused_and_the_association_goes_on(
    tmp_path: Path, spool: Spool, image: FileDataset
) -> None:
    good = write(tmp_path / "good", [image])[0]
    content = good.read_bytes()
    start = len(content) - len(data_set_of(content))
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(content[:start] + b"\xff" * 300)

    with receiving(spool) as receiver:
        assert send(receiver, [bad, good]) == [0xC001, 0x0000]
    assert len(stored(spool)) == 1
    (kept,) = (tmp_path / "data" / "quarantine").iterdir()
    assert data_set_of(kept.read_bytes()) == b"\xff" * 300
    assert list(spool.incoming.iterdir()) == []


def test_another_called_ae_title_is_rejected(spool: Spool) -> None:
    with receiving(spool) as receiver, association(receiver, called="OTHER") as opened:
        assert opened.is_rejected
        rejection = opened.acceptor.primitive
        assert (rejection.result, rejection.result_source, rejection.diagnostic) == (1, 1, 7)


def test_every_association_is_counted_by_its_outcome(spool: Spool) -> None:
    tallies = Tallies(1)
    with receiving(spool, tally=tallies.of(0)) as receiver:
        with association(receiver) as released:
            released.release()
        with association(receiver) as aborted:
            aborted.abort()
        with association(receiver, called="ELSEWHERE") as rejected:
            assert rejected.is_rejected
        expected = {"accepted": 2, "rejected": 1, "released": 1, "aborted": 1}
        wait_until(lambda: tallies.associations() == expected)


def test_an_unknown_sender_is_rejected(tmp_path: Path, spool: Spool) -> None:
    (tmp_path / "peers.yaml").write_text(
        "peers:\n"
        "  - {name: a, aet: SCANNER, host: 127.0.0.1, roles: [sender]}\n"
        "  - {name: b, aet: ELSEWHERE, host: 10.0.0.1, roles: [sender]}\n"
    )
    with receiving(spool, peers=Peers.load(tmp_path / "peers.yaml")) as receiver:
        with association(receiver) as opened:
            assert opened.is_established
        for calling in ("STRANGER", "ELSEWHERE"):
            with association(receiver, calling=calling) as opened:
                assert opened.is_rejected
                rejection = opened.acceptor.primitive
                assert (rejection.result, rejection.result_source, rejection.diagnostic) == (1, 1, 3)
        assert receiver.counters.snapshot() == {"association_rejected": 2}


def test_one_association_too_many_is_rejected_for_now(spool: Spool) -> None:
    with (
        receiving(spool, max_associations=1) as receiver,
        association(receiver) as first,
        association(receiver) as second,
    ):
        assert first.is_established
        assert second.is_rejected
        assert second.acceptor.primitive.result == 2


def test_native_and_lossless_syntaxes_are_preferred_and_jpip_is_not_accepted(spool: Spool) -> None:
    proposed = [JPEGBaseline8Bit, JPEG2000Lossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian]
    contexts = [
        build_context(MRImageStorage, proposed),
        build_context(MRImageStorage, proposed[:2]),
        build_context(MRImageStorage, [JPIP]),
        build_context(MRImageStorage, [ExplicitVRBigEndian]),
        build_context("1.2.3.4.5.6", [ExplicitVRLittleEndian]),
    ]
    with receiving(spool) as receiver, association(receiver, *contexts) as opened:
        accepted = [str(context.transfer_syntax[0]) for context in opened.accepted_contexts]

    assert accepted == [ExplicitVRLittleEndian, JPEG2000Lossless, ExplicitVRBigEndian]


def test_an_instance_beyond_the_limit_ends_its_association_and_leaves_nothing(
    tmp_path: Path, spool: Spool
) -> None:
    large = write(tmp_path / "large", [mr_image("large", 0, np.zeros((512, 512), np.uint16))])
    small = write(tmp_path / "small", [mr_image("small", 0, np.zeros((8, 8), np.uint16))])

    with receiving(spool, max_instance_bytes=200_000) as receiver:
        assert send(receiver, large) == [None]
        assert send(receiver, small) == [0x0000]
        wait_until(lambda: not any(spool.incoming.iterdir()))
    assert len(stored(spool)) == 1


def test_a_connection_cut_inside_an_instance_leaves_nothing(tmp_path: Path, spool: Spool) -> None:
    paths = write(tmp_path / "large", [mr_image("large", 0, np.zeros((512, 512), np.uint16))])
    cut = threading.Event()

    def cut_it(event: Any) -> None:
        if len(event.data) > 10_000 and not cut.is_set():
            cut.set()
            event.assoc.dul.socket.socket.close()

    with receiving(spool) as receiver, association(receiver, build_context(MRImageStorage)) as opened:
        opened.bind(evt.EVT_DATA_SENT, cut_it)
        opened.send_c_store(paths[0])
        assert cut.is_set()
        wait_until(lambda: not any(spool.incoming.iterdir()))
        assert receiver.counters.snapshot() == {}
    assert stored(spool) == []


def test_a_pdu_that_claims_to_be_endless_closes_its_connection_at_once(spool: Spool) -> None:
    with (
        receiving(spool, acse_timeout_s=0.5) as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)) as peer,
    ):
        peer.settimeout(30)
        peer.sendall(struct.pack(">BBL", 1, 0, LONGEST_PDU + 1) + b"\0" * 64)

        assert peer.recv(64) == b""


def test_a_request_whose_context_names_no_class_ends_its_connection(spool: Spool) -> None:
    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(body)) + body

    titles = b"VIGIL".ljust(16) + b"SCANNER".ljust(16)
    context = item(0x20, bytes((1, 0, 0, 0)) + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    body = (
        struct.pack(">HH", 1, 0) + titles + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    )
    threads = threading.active_count()
    with receiving(spool) as receiver, socket.create_connection(("127.0.0.1", receiver.port)) as peer:
        peer.settimeout(30)
        peer.sendall(struct.pack(">BBL", 1, 0, len(body)) + body)

        assert peer.recv(64)[:1] == b"\x07"  # aborted
        peer.close()
        wait_until(lambda: threading.active_count() <= threads + 1)  # of the acceptor alone


def test_peers_that_say_nothing_or_half_a_word_lose_their_place(spool: Spool) -> None:
    with receiving(spool, max_associations=2, acse_timeout_s=0.5, network_timeout_s=0.5) as receiver:
        silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(2)]
        half = socket.create_connection(("127.0.0.1", receiver.port))
        half.sendall(b"\x01\x00\x00")
        try:
            wait_until(lambda: is_answered(receiver))
        finally:
            for peer in (*silent, half):
                peer.close()


class SlowSpool(Spool):
    """Spool that waits for a gate before it takes anything."""

    gate = threading.Event()

    def has_room(self) -> bool:
        return self.gate.wait(60)


def test_a_sender_that_does_not_wait_for_answers_fills_nothing(
    tmp_path: Path, image: FileDataset, way: str
) -> None:
    """Without asynchronous operations one message may be open; the rest would fill the disk unseen.

    pynetdicom reads ahead, so such a sender is cut off. The fast way reads nothing before it has answered.
    """
    content = write(tmp_path / "sent", [image])[0].read_bytes()
    spool = SlowSpool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)
    spool.gate.clear()

    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    with receiving(spool) as receiver, association(receiver, context) as opened:
        for number in range(40):
            request = C_STORE()
            request.MessageID, request.Priority = number + 1, 2
            request.AffectedSOPClassUID = image.SOPClassUID
            request.AffectedSOPInstanceUID = image.SOPInstanceUID
            request.DataSet = io.BytesIO(data_set_of(content))
            opened.dimse.send_msg(request, 1)
        if way == "stock":
            wait_until(lambda: not opened.is_established)
        else:
            time.sleep(0.5)
            assert receiver.counters.snapshot() == {}
            assert list(spool.incoming.iterdir()) == []
        spool.gate.set()
        wait_until(lambda: not any(spool.incoming.iterdir()))
    assert len(stored(spool)) <= 1


@pytest.fixture
def conversation(tmp_path: Path, spool: Spool, image: FileDataset) -> list[bytes]:
    """PDUs of a good sender: association request, command, data set, release."""
    paths = write(tmp_path / "recorded", [image])
    sent: list[bytes] = []
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    with receiving(spool) as receiver, association(receiver, context) as opened:
        opened.bind(evt.EVT_DATA_SENT, lambda event: sent.append(bytes(event.data)))
        opened.send_c_store(paths[0])
        opened.release()
        request = opened.requestor.primitive
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return [pdu.encode(), *sent]


def test_whatever_a_peer_says_the_node_lives_and_nothing_is_left(
    spool: Spool, conversation: list[bytes]
) -> None:
    chance = random.Random(20260321)  # noqa: S311 - repeatable, and no secret

    def damaged(pdu: bytes, odds: float) -> bytes:
        bytes_ = bytearray(pdu)
        if chance.random() < odds:
            for _ in range(chance.randint(1, 4)):
                bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
            if chance.random() < 0.3:
                del bytes_[chance.randrange(len(bytes_)) :]
        return bytes(bytes_)

    with receiving(spool, acse_timeout_s=0.5, network_timeout_s=0.5) as receiver:
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", receiver.port)) as peer, suppress(OSError):
                peer.settimeout(30)  # the node answers, or ends what is cut off
                peer.sendall(damaged(conversation[0], 0.2))
                if peer.recv(4096):
                    peer.settimeout(0.2)
                    peer.sendall(b"".join(damaged(pdu, 0.6) for pdu in conversation[1:]))
                    peer.recv(4096)
        wait_until(lambda: is_answered(receiver))
        wait_until(lambda: not any(spool.incoming.iterdir()))
        wait_until(lambda: any(name.startswith("refused") for name in receiver.counters.snapshot()))


def test_a_port_in_use_is_a_message_with_the_remedy(spool: Spool) -> None:
    with (
        receiving(spool) as receiver,
        pytest.raises(PortInUseError, match=f"port {receiver.port}.*VIGIL_PORT"),
    ):
        Receiver(spool, aet=AET, host="127.0.0.1", port=receiver.port, peers=Peers()).start()


def test_the_log_of_a_day_names_nobody(
    tmp_path: Path, spool: Spool, image: FileDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write(tmp_path / "sent", [image])
    image.Rows = 7
    paths += write(tmp_path / "again", [image])

    with capture_logs() as logs, receiving(spool) as receiver:
        send(receiver, paths)
        with association(receiver, called="OTHER"):
            pass

    printed = capfd.readouterr()
    told = f"{logs}{printed.out}{printed.err}"
    assert any(log["event"].startswith("second data set") for log in logs)
    for secret in (image.SOPInstanceUID, image.StudyInstanceUID, image.PatientID, "SCANNER", "1.2.840"):
        assert str(secret) not in told


def test_stopping_twice_and_starting_again_is_allowed(spool: Spool) -> None:
    receiver = Receiver(spool, aet=AET, host="127.0.0.1", port=0, peers=Peers(), **WAY)
    for _ in range(2):
        receiver.start()
        with association(receiver) as opened:
            assert opened.is_established
        receiver.stop()
        receiver.stop()

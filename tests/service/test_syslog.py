import socket
import ssl
import struct
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.syslog import Receiver, RepositoryAwayError, frame, syslog_message
from tests.certificates import Certificates, both, make, renew
from tests.syslog_receiver import SyslogReceiver, receiving

MESSAGES = [b"<85>1 one", "<85>1 zwei äöü".encode(), b"x" * 300_000]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


def to(port: int, certificates: Certificates, *, shows: Path | None = None) -> Receiver:
    return Receiver.open(f"127.0.0.1:{port}", authorities=certificates.authority, certificate=shows)


def shown(certificates: Certificates, folder: Path) -> Path:
    """One file with certificate and key."""
    file = folder / "both.pem"
    file.write_bytes(both(certificates.peer))
    return file


def test_messages_arrive_whole_and_in_order(certificates: Certificates) -> None:
    with receiving(certificates) as receiver:
        for _ in range(2):
            to(receiver.port, certificates).send(MESSAGES)

    assert receiver.received == MESSAGES * 2


def test_a_frame_begins_with_the_length_in_octets() -> None:
    assert frame("ä".encode()) == b"2 \xc3\xa4"


def test_a_header_says_what_dicom_asks_for() -> None:
    at = datetime(2026, 3, 2, 8, 0, 0, 5, tzinfo=UTC)

    told = syslog_message(b"<AuditMessage/>", at=at, host="node1")

    assert told.startswith(b"<85>1 2026-03-02T08:00:00.000005Z node1 vigil - DICOM+RFC3881 - \xef\xbb\xbf<A")


def test_a_receiver_may_ask_who_sends(certificates: Certificates, tmp_path: Path) -> None:
    with receiving(certificates, asks=True) as receiver:
        to(receiver.port, certificates, shows=shown(certificates, tmp_path)).send(MESSAGES)
        with pytest.raises(RepositoryAwayError):
            to(receiver.port, certificates).send(MESSAGES)

    assert receiver.received == MESSAGES
    assert receiver.peers == ["peer"]


def closed_at_once(_: SyslogReceiver, channel: ssl.SSLSocket) -> None:
    channel.close()


def said_goodbye_at_once(_: SyslogReceiver, channel: ssl.SSLSocket) -> None:
    channel.settimeout(0.2)
    channel.unwrap()


def said_goodbye_at_once_and_closed_late(_: SyslogReceiver, channel: ssl.SSLSocket) -> None:
    channel.settimeout(0)
    with suppress(ssl.SSLError):  # the goodbye is said, and not waited for
        channel.unwrap()
    time.sleep(0.3)


def killed_with_bytes_unread(_: SyslogReceiver, channel: ssl.SSLSocket) -> None:
    channel.recv(10)
    linger = struct.pack("ii", 1, 0)  # what the machine does for a killed process with unread bytes
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize(
    "serve",
    [
        closed_at_once,
        said_goodbye_at_once,
        said_goodbye_at_once_and_closed_late,
        killed_with_bytes_unread,
    ],
)
@pytest.mark.parametrize("messages", [MESSAGES, MESSAGES[:1]])
def test_a_receiver_that_ends_before_it_has_read_all_has_not_got_it(
    certificates: Certificates, serve: object, messages: list[bytes]
) -> None:
    with receiving(certificates) as receiver:
        receiver.serve = serve  # type: ignore[assignment]
        with pytest.raises(RepositoryAwayError):
            to(receiver.port, certificates).send(messages)


def stood_still(_: SyslogReceiver, channel: ssl.SSLSocket) -> None:
    channel.recv(10)
    time.sleep(1)


def test_a_receiver_that_stands_still_is_given_up(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.syslog.SEND_S", 0.3)
    with receiving(certificates) as receiver:
        receiver.serve = stood_still
        with pytest.raises(RepositoryAwayError):
            to(receiver.port, certificates).send([b"x" * 10_000_000])


def test_a_port_where_nobody_listens_is_told_as_away() -> None:
    with pytest.raises(RepositoryAwayError):
        Receiver.open("127.0.0.1:1", authorities=None, certificate=None).send([b"x"])


def test_a_receiver_of_a_strange_authority_gets_nothing(certificates: Certificates) -> None:
    with receiving(certificates) as receiver:
        strange = Receiver.open(
            f"127.0.0.1:{receiver.port}", authorities=certificates.stranger, certificate=None
        )
        with pytest.raises(RepositoryAwayError):
            strange.send(MESSAGES)

    assert receiver.received == []


def test_a_receiver_of_an_old_protocol_gets_nothing(certificates: Certificates) -> None:
    with receiving(certificates, is_old=True) as receiver, pytest.raises(RepositoryAwayError):
        to(receiver.port, certificates).send(MESSAGES)

    assert receiver.received == []


def test_an_unreadable_certificate_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VIGIL_AUDIT_SYSLOG"):
        Receiver.open("127.0.0.1:1", authorities=tmp_path / "none.pem", certificate=None)


def test_a_renewed_certificate_is_shown_with_the_next_batch(tmp_path: Path) -> None:
    made = make(tmp_path)
    repository = to(1, made, shows=shown(made, tmp_path))
    before = repository.tls()
    assert repository.tls() is before

    renew(made, made.peer)
    shown(made, tmp_path)

    assert repository.tls() is not before

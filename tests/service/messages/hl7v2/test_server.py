import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.certificates import calling_context, serving_context
from service.messages.hl7v2 import server
from service.messages.hl7v2.mllp import LONGEST_FRAME, FrameError, Frames, framed
from tests import certificates


def echo(frame: bytes, _address: str, _fingerprint: str | None) -> bytes | None:
    return None if frame == b"stranger" else b"answer to " + frame


@contextmanager
def running(*, is_welcome: bool = True) -> Iterator[int]:
    with server.serving("127.0.0.1", 0, answer=echo, is_welcome=lambda _: is_welcome) as port:
        yield port


@pytest.fixture
def port() -> Iterator[int]:
    with running() as found:
        yield found


@contextmanager
def caller(port: int) -> Iterator[tuple[socket.socket, Frames]]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield connection, Frames(connection)


def answer(frames: Frames) -> bytes | None:
    return frames.next(idle_s=30, whole_s=30)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_messages_of_one_connection_are_answered_in_their_order(port: int) -> None:
    with caller(port) as (connection, frames):
        connection.sendall(framed(b"1") + framed(b"2") + framed(b"3")[:2])
        assert [answer(frames), answer(frames)] == [b"answer to 1", b"answer to 2"]
        connection.sendall(framed(b"3")[2:])
        assert answer(frames) == b"answer to 3"


def test_a_message_in_single_bytes_is_a_message(port: int) -> None:
    with caller(port) as (connection, frames):
        for byte in framed(b"slow"):
            connection.sendall(bytes([byte]))
        assert answer(frames) == b"answer to slow"


@pytest.mark.parametrize(
    "sent", [b"MSH|no frame\r", b"\x0b" + b"x" * (LONGEST_FRAME + 5000), framed(b"x" * (LONGEST_FRAME + 1))]
)
def test_what_is_no_frame_or_too_long_ends_the_connection(port: int, sent: bytes) -> None:
    with caller(port) as (connection, _):
        try:
            connection.sendall(sent)
        except ConnectionError:
            return
        assert is_closed(connection)


def test_a_frame_that_drips_ends_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WHOLE_S", 0.3)
    with caller(port) as (connection, _):
        connection.sendall(b"\x0bMSH")
        begun = time.monotonic()
        assert is_closed(connection)
        assert time.monotonic() - begun < 30


def test_who_may_send_nothing_gets_no_answer(port: int) -> None:
    with caller(port) as (connection, _):
        connection.sendall(framed(b"stranger"))
        assert is_closed(connection)


def test_an_unknown_address_is_not_even_listened_to() -> None:
    with running(is_welcome=False) as port, caller(port) as (connection, _):
        assert is_closed(connection)


def test_one_address_has_so_many_connections_and_the_place_comes_back(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(server.MOST_OF_ONE)]
    for number, connection in enumerate(held):  # each is in its thread once it was answered
        connection.sendall(framed(str(number).encode()))
        assert answer(Frames(connection)) is not None
    with caller(port) as (connection, _):
        assert is_closed(connection)
    for connection in held:
        connection.close()

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with caller(port) as (connection, frames):
            try:
                connection.sendall(framed(b"again"))
                assert answer(frames) == b"answer to again"
            except (AssertionError, FrameError, ConnectionError):
                time.sleep(0.05)
            else:
                return
    pytest.fail("no place came back")


def test_the_server_ends_while_a_connection_is_idle() -> None:
    with running() as port, caller(port) as (connection, frames):
        connection.sendall(framed(b"1"))
        assert answer(frames) == b"answer to 1"
        before = threading.active_count()

    deadline = time.monotonic() + 30
    while threading.active_count() >= before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() < before


def test_behind_tls_only_who_shows_a_certificate_and_has_an_address_is_answered(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    tls = serving_context(made.node, made.authority, made.key(made.node))
    shown: list[str | None] = []

    def note(frame: bytes, _address: str, fingerprint: str | None) -> bytes:
        shown.append(fingerprint)
        return frame

    ours = calling_context(made.peer, made.authority, made.key(made.peer))
    with server.serving("127.0.0.1", 0, answer=note, is_welcome=lambda _: True, tls=lambda: tls) as port:
        with caller(port) as (plain, _):
            secured = ours.wrap_socket(plain, server_hostname="127.0.0.1")
            secured.sendall(framed(b"1"))
            assert answer(Frames(secured)) == b"1"
            secured.close()
        with caller(port) as (plain, _):
            plain.sendall(framed(b"plain where TLS is due"))
            assert is_closed(plain)
    with (
        server.serving("127.0.0.1", 0, answer=note, is_welcome=lambda _: False, tls=lambda: tls) as port,
        caller(port) as (plain, _),
        pytest.raises(OSError, match=r"reset|EOF|closed|SSL"),
    ):
        ours.wrap_socket(plain, server_hostname="127.0.0.1")

    assert [len(fingerprint or "") for fingerprint in shown] == [64]

"""Peers over HTTP, and clocks that disagree."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dicom_node.channel import WebhookChannel
from dicom_node.peer import Peer, Role
from service.doctor import Outcome
from service.doctor.database import clock_check
from service.doctor.others import channel_check, peer_check
from tests.end_to_end.peers import free_port


@contextmanager
def web_archive(*, ahead: timedelta) -> Iterator[int]:
    """An archive that holds nothing and whose clock is wrong."""

    class Archive(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("ahead", "outcome"), [(timedelta(0), Outcome.OK), (timedelta(hours=1), Outcome.WARNING)]
)
def test_a_web_peer_whose_clock_is_wrong_is_told(ahead: timedelta, outcome: Outcome) -> None:
    with web_archive(ahead=ahead) as port:
        peer = Peer(
            name="web",
            roles=frozenset({Role.ARCHIVE}),
            protocol="dicomweb",
            url=f"http://127.0.0.1:{port}/dicom-web",
        )
        found = {check.part: check.outcome for check in peer_check(peer, aet="VIGIL")}

    assert found == {"peer": Outcome.OK, "clock": outcome}


def test_who_only_calls_us_is_not_called() -> None:
    scanner = Peer(name="scanner", roles=frozenset({Role.SENDER}), aet="MR1", host="127.0.0.1")

    assert [check.outcome for check in peer_check(scanner, aet="VIGIL")] == [Outcome.UNUSED]


def test_a_channel_where_nobody_listens_fails(tmp_path: object) -> None:
    board = WebhookChannel(
        name="board", protocol="webhook", url=f"http://127.0.0.1:{free_port()}/in", secrets=(f"{tmp_path}/s",)
    )

    assert [check.outcome for check in channel_check(board)] == [Outcome.FAILED]


@pytest.mark.parametrize(
    ("earliest_s", "latest_s", "outcome", "told"),
    [
        (-0.1, 0.2, Outcome.OK, "0.0 s apart"),
        (-1.5, -1.0, Outcome.OK, "1.0 s apart"),
        (60.0, 61.0, Outcome.WARNING, "60 s ahead of"),
        (-61.0, -60.0, Outcome.WARNING, "60 s behind"),
    ],
)
def test_two_clocks_may_differ_by_what_the_question_took(
    earliest_s: float, latest_s: float, outcome: Outcome, told: str
) -> None:
    check = clock_check("database", earliest_s, latest_s)

    assert check.outcome is outcome
    assert told in check.told

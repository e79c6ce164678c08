"""The asking side of DICOMweb against a server that answers as told."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dicom_node.delivery import open_destination
from dicom_node.errors import (
    DeliveryError,
    DestinationBusyError,
    DestinationRefusedError,
    NotOfferedError,
    SopClassRefusedError,
)
from dicom_node.peer import Peer
from dicom_node.services.dicomweb import WebPeer

STUDY = "1.2.3"


class Server(ThreadingHTTPServer):
    """Answers every request with one status and one body, and remembers what it was asked."""

    status = 200
    body: bytes = b""
    pages: tuple[Any, ...] = ()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        number = len(self.server.asked)
        self.server.asked.append((self.path, self.headers.get("Authorization", ""), content))
        pages = self.server.pages
        body = json.dumps(pages[min(number, len(pages) - 1)]).encode() if pages else self.server.body
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def failed(reason: int) -> bytes:
    item = {"00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (202, failed(0x0122), SopClassRefusedError),
        (409, failed(0x0122), SopClassRefusedError),
        (409, failed(0xA701), DestinationBusyError),
        (409, failed(0x0110), DestinationBusyError),
        (409, failed(0xC000), DestinationRefusedError),
        (200, failed(0xC000), DestinationRefusedError),
        (401, b"", DestinationBusyError),
        (429, b"", DestinationBusyError),
        (503, b"", DestinationBusyError),
        (404, b"", NotOfferedError),
        (400, b"", DestinationRefusedError),
    ],
)
def test_every_answer_to_an_object_is_retried_or_left_to_a_person(
    server: Server, tmp_path: Path, status: int, body: bytes, kind: type[DeliveryError]
) -> None:
    server.status, server.body = status, body
    (tmp_path / "x.dcm").write_bytes(b"object")

    with pytest.raises(DeliveryError) as caught:
        WebPeer(url=server.url).store(tmp_path / "x.dcm")

    assert type(caught.value) is kind


def test_an_object_goes_out_as_the_bytes_it_is_with_the_authorization_of_the_file(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("Bearer abc\n")
    (tmp_path / "x.dcm").write_bytes(bytes(range(256)) * 10_000)
    peer = Peer.model_validate(
        {
            "name": "web",
            "roles": ["destination"],
            "protocol": "dicomweb",
            "url": server.url,
            "authorization": tmp_path / "token",
        }
    )

    (receipt,) = open_destination(peer, calling_aet="VIGIL").send([tmp_path / "x.dcm"])

    ((path, authorization, content),) = server.asked
    assert receipt.is_stored
    assert (path, authorization) == ("/dicom-web/studies", "Bearer abc")
    assert (tmp_path / "x.dcm").read_bytes() in content


def test_nobody_there_is_busy_and_the_error_names_no_uid() -> None:
    with pytest.raises(DestinationBusyError) as caught:
        WebPeer(url="http://127.0.0.1:1").holds_instance(
            study_uid=STUDY, series_uid="1.2.4", sop_instance_uid="1.2.5"
        )

    assert "1.2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_search_is_read_page_by_page(server: Server) -> None:
    def row(number: int) -> dict[str, Any]:
        return {
            "0020000E": {"vr": "UI", "Value": [f"1.2.{number}"]},
            "00201209": {"vr": "IS", "Value": [number]},
        }

    server.pages = ([row(n) for n in range(1000)], [row(1000)])

    counts = WebPeer(url=server.url).series_counts(STUDY)

    assert len(server.asked) == 2
    assert counts == {f"1.2.{number}": number for number in range(1001)}


def test_a_server_that_ignores_the_page_is_not_asked_for_ever(server: Server) -> None:
    server.pages = ([{"00080018": {"vr": "UI", "Value": [f"1.2.{n}"]}} for n in range(1000)],)

    assert not WebPeer(url=server.url).holds_instance(
        study_uid=STUDY, series_uid="1.2.4", sop_instance_uid="9"
    )
    assert len(server.asked) == 2


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b"[1, 2]"])
def test_an_answer_that_is_no_dicom_json_breaks_nothing(server: Server, body: bytes) -> None:
    server.body = body
    try:
        found = WebPeer(url=server.url).series_counts(STUDY)
    except DestinationRefusedError:
        found = {}

    assert found == {}

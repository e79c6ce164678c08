"""What an archive announced is fetched; a DICOMweb archive of the test's own stands in for it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset
from structlog.testing import capture_logs

from dicom_node.identity import instance_file_name
from dicom_node.peer import Peer
from dicom_node.peers import Peers
from dicom_node.pulls import Pulls
from dicom_node.signals import Signal, SignalKind, Signals
from dicom_node.spool import Spool
from service.pull import FIRST_PAUSE_S, Puller
from tests.phantoms import Phantom, write


class Archive(ThreadingHTTPServer):
    """Answers WADO-RS with the files it has, or with 503 while it has none."""

    files: tuple[Path, ...] = ()
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        self.server.asked += 1
        head = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
        body = b"".join(head + path.read_bytes() + b"\r\n" for path in self.server.files) + b"--x--\r\n"
        self.send_response(200 if self.server.files else 503)
        self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=x')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def archive() -> Iterator[Archive]:
    with Archive(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def images() -> list[FileDataset]:
    return Phantom().datasets()[:3]


@pytest.fixture
def puller(tmp_path: Path, archive: Archive, images: list[FileDataset]) -> Puller:
    """Of a node that was told of the images."""
    peer = Peer.model_validate(
        {"name": "pacs", "roles": ["archive"], "protocol": "dicomweb", "pull": "get"}
        | {"url": f"http://127.0.0.1:{archive.server_address[1]}"}
    )
    made = Puller(
        pulls=Pulls(tmp_path / "pulls"),
        peers=Peers((peer,)),
        spool=Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=1),
        signals=Signals(tmp_path / "signals"),
        aet="VIGIL",
        max_instance_bytes=1 << 20,
        settle_s=0.0,
    )
    announced = frozenset(instance_file_name(str(image.SOPInstanceUID)) for image in images)
    key = made.spool.key_of(str(images[0].StudyInstanceUID))
    made.signals.put(key, "1", Signal(kind=SignalKind.AVAILABILITY, is_final=True, instances=announced))
    made.pulls.ask(str(images[0].StudyInstanceUID), "pacs")
    return made


def spooled(puller: Puller, images: list[FileDataset]) -> set[str]:
    key = puller.spool.key_of(str(images[0].StudyInstanceUID))
    return {one.file_name for one in puller.spool.instances(key)}


def test_what_is_missing_is_fetched_once(
    puller: Puller, archive: Archive, images: list[FileDataset], tmp_path: Path
) -> None:
    archive.files = tuple(write(tmp_path / "held", images))
    for _ in range(3):
        puller.step(threading.Event())

    assert spooled(puller, images) == {instance_file_name(str(image.SOPInstanceUID)) for image in images}
    assert archive.asked == 1
    assert puller.pulls.waiting() == []


def test_what_is_here_already_is_not_fetched(
    puller: Puller, archive: Archive, images: list[FileDataset], tmp_path: Path
) -> None:
    for image, path in zip(images, write(tmp_path / "held", images), strict=True):
        puller.spool.store(str(image.StudyInstanceUID), str(image.SOPInstanceUID), [path.read_bytes()])
    puller.step(threading.Event())

    assert (archive.asked, puller.pulls.waiting()) == (0, [])


def test_an_archive_that_is_away_is_asked_again_after_a_pause_and_named_without_the_study(
    puller: Puller, archive: Archive, images: list[FileDataset], tmp_path: Path
) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            puller.step(threading.Event())
    assert archive.asked == 1
    assert str(images[0].StudyInstanceUID) not in str(logs)
    assert [entry["event"] for entry in logs] == ["study not fetched yet"]

    archive.files = tuple(write(tmp_path / "held", images))
    (name,) = puller._due
    puller._due[name] = (puller._due[name][0] - FIRST_PAUSE_S, FIRST_PAUSE_S)
    puller.step(threading.Event())
    assert len(spooled(puller, images)) == len(images)
    assert puller.pulls.waiting() == []


def test_a_wish_is_given_up_where_nobody_may_be_asked_any_more(puller: Puller, archive: Archive) -> None:
    puller.peers = Peers(())
    puller.step(threading.Event())

    assert (archive.asked, puller.pulls.waiting()) == (0, [])

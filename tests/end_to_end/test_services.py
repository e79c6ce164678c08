"""The services beside storage, with peers nobody here wrote."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.delivery import open_destination
from dicom_node.identity import derive_uid, instance_file_name
from dicom_node.peers import Confirm, Peer, Peers, Role
from dicom_node.scp import Receiver
from dicom_node.services.association import line_to
from dicom_node.services.commitment import Mailbox, Reference
from dicom_node.services.dicomweb import WebPeer
from dicom_node.services.provider import Provider
from dicom_node.services.query import series_counts, studies_of
from dicom_node.signals import Signals
from dicom_node.spool import Spool
from tests.end_to_end.peers import DICOMWEB, MISSING, Orthanc, orthanc
from tests.phantoms import Phantom, mr_image, write

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

SECRET = b"s" * 32


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive") / "orthanc", plugins=DICOMWEB) as running:
        yield running


def pacs(archive: Orthanc, confirm: Confirm = Confirm.COMMITMENT) -> Peer:
    return Peer(
        name="pacs",
        aet="ORTHANC",
        host="127.0.0.1",
        port=archive.dicom_port,
        roles=frozenset({Role.DESTINATION, Role.ARCHIVE}),
        confirm=confirm,
    )


@contextmanager
def node(folder: Path, peers: Peers) -> Iterator[tuple[Receiver, Mailbox]]:
    spool = Spool(folder / "spool", SECRET, free_mark_bytes=0)
    mailbox = Mailbox(folder / "signals" / "commitment")
    provider = Provider(spool=spool, signals=Signals(folder / "signals"), mailbox=mailbox, peers=peers)
    with Receiver(spool, aet="VIGIL", host="127.0.0.1", port=0, peers=peers, services=provider) as receiver:
        yield receiver, mailbox


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def reference(path: Path) -> Reference:
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return Reference(
        sop_class_uid=meta.MediaStorageSOPClassUID, sop_instance_uid=meta.MediaStorageSOPInstanceUID
    )


def test_orthanc_commits_to_what_it_holds_and_names_what_it_lacks(archive: Orthanc, tmp_path: Path) -> None:
    peer = pacs(archive)
    held, lacking = write(
        tmp_path / "sent", [mr_image("committed", number, np.zeros((4, 4), np.uint16)) for number in range(2)]
    )
    destination = open_destination(peer, calling_aet="VIGIL")
    with node(tmp_path, Peers((peer,))) as (receiver, mailbox):
        archive.knows(aet="VIGIL", port=receiver.port)
        assert destination.send([held])[0].is_stored

        transaction_uid = derive_uid("test-transaction", str(receiver.port))
        destination.request_commitment(transaction_uid, [reference(held), reference(lacking)], mailbox)
        wait_for(lambda: mailbox.report(transaction_uid))

    report = mailbox.report(transaction_uid)
    assert report is not None
    assert report.held == {instance_file_name(reference(held).sop_instance_uid)}
    assert report.reason(reference(lacking).sop_instance_uid) == 0x0112


def test_orthanc_is_asked_what_it_holds(archive: Orthanc, tmp_path: Path) -> None:
    peer = pacs(archive, Confirm.QUERY)
    there, missing = write(
        tmp_path / "sent", [mr_image("queried", number, np.zeros((4, 4), np.uint16)) for number in range(2)]
    )
    destination = open_destination(peer, calling_aet="VIGIL")

    assert destination.send([there])[0].is_stored

    assert destination.holds(there)
    assert not destination.holds(missing)


def test_orthanc_counts_the_instances_of_each_series(archive: Orthanc, tmp_path: Path) -> None:
    peer = pacs(archive)
    images = Phantom(name="counted").datasets()
    for image in images:
        image.AccessionNumber = "COUNTED1"
    destination = open_destination(peer, calling_aet="VIGIL")
    assert all(receipt.is_stored for receipt in destination.send(write(tmp_path / "sent", images)))
    line = line_to(peer, calling_aet="VIGIL")

    assert series_counts(line, images[0].StudyInstanceUID) == {images[0].SeriesInstanceUID: len(images)}
    assert studies_of(line, "COUNTED1") == (images[0].StudyInstanceUID,)
    assert studies_of(line, "NOBODY") == ()


@pytest.mark.skipif(not DICOMWEB, reason="orthanc-dicomweb is not installed")
def test_dicomweb_stores_finds_counts_and_retrieves(archive: Orthanc, tmp_path: Path) -> None:
    peer = Peer(
        name="web",
        roles=frozenset({Role.DESTINATION}),
        protocol="dicomweb",
        url=f"http://127.0.0.1:{archive.http_port}/dicom-web",
        confirm=Confirm.QUERY,
    )
    images = Phantom(name="web").datasets()
    for image in images:
        image.AccessionNumber = "WEB1"
    (*sent, missing) = write(tmp_path / "sent", images)
    destination = open_destination(peer, calling_aet="VIGIL")
    web = WebPeer.of(peer)

    destination.check()
    receipts = [*destination.send(sent), *destination.send(sent[:1])]  # again is harmless

    assert [receipt.status for receipt in receipts] == [200] * (len(sent) + 1)
    assert destination.holds(sent[0])
    assert not destination.holds(missing)
    assert web.series_counts(images[0].StudyInstanceUID) == {images[0].SeriesInstanceUID: len(sent)}
    assert web.studies_of("WEB1") == (images[0].StudyInstanceUID,)
    events = list(web.retrieve_study(images[0].StudyInstanceUID))
    parts = b"".join(content if kind == "data" else b"|" for kind, content in events)
    assert [kind for kind, _ in events].count("end") == len(sent)
    for path in sent:
        assert dcmread(path).PixelData in parts


@pytest.mark.skipif(not DICOMWEB, reason="orthanc-dicomweb is not installed")
def test_what_is_no_dicom_is_refused_by_dicomweb(archive: Orthanc, tmp_path: Path) -> None:
    peer = Peer(
        name="web",
        roles=frozenset({Role.DESTINATION}),
        protocol="dicomweb",
        url=f"http://127.0.0.1:{archive.http_port}/dicom-web",
    )
    (tmp_path / "text.dcm").write_bytes(b"no DICOM")

    (receipt,) = open_destination(peer, calling_aet="VIGIL").send([tmp_path / "text.dcm"])

    assert not receipt.is_stored

"""The services beside storage, with peers nobody here wrote."""

import dataclasses
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage, RawDataStorage

from dicom_node.delivery import Destinations, open_destination
from dicom_node.errors import DestinationRefusedError
from dicom_node.identity import derive_uid, instance_file_name
from dicom_node.line import Line, line_to
from dicom_node.peers import Confirm, Peer, Peers, Role
from dicom_node.pulls import Pulls
from dicom_node.scp import Receiver
from dicom_node.services.commitment import Mailbox, Reference
from dicom_node.services.dicomweb import WebPeer
from dicom_node.services.landing import land_study
from dicom_node.services.modality_worklist import ordered_priority
from dicom_node.services.probe import probe
from dicom_node.services.provider import Provider
from dicom_node.services.query import series_counts, studies_of
from dicom_node.services.retrieve import get_study, move_study
from dicom_node.signals import Signals
from dicom_node.spool import Spool
from service.calibrating import fetch
from service.deliver import Delivery
from service.settings import Settings
from service.store import Store, jobs, studies
from service.store.objects import Unchecked
from service.store.results import StoredResult
from service.store.tables import DeliveryRow
from service.study import DeliveryStatus
from tests.end_to_end.peers import DICOMWEB, MISSING, Orthanc, free_port, orthanc
from tests.phantoms import Phantom, mr_image, write
from tests.service.test_jobs import SCORED
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

SECRET = b"s" * 32


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive") / "orthanc", plugins=DICOMWEB) as running:
        running.knows(aet="VIGIL", port=free_port())  # it answers queries of nodes it knows
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
    places = {"signals": Signals(folder / "signals"), "pulls": Pulls(folder / "pulls"), "mailbox": mailbox}
    provider = Provider(spool=spool, peers=peers, **places)
    with Receiver(spool, aet="VIGIL", host="127.0.0.1", port=0, peers=peers, services=provider) as receiver:
        yield receiver, mailbox


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def are_stored(peer: Peer, paths: list[Path]) -> bool:
    return all(receipt.is_stored for receipt in open_destination(peer, calling_aet="VIGIL").send(paths))


def reference(path: Path) -> Reference:
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return Reference(
        sop_class_uid=meta.MediaStorageSOPClassUID, sop_instance_uid=meta.MediaStorageSOPInstanceUID
    )


def test_orthanc_commits_to_what_it_holds_and_names_what_it_lacks(archive: Orthanc, tmp_path: Path) -> None:
    peer = pacs(archive)
    images = [mr_image("committed", number, np.zeros((4, 4), np.uint16)) for number in range(2)]
    held, lacking = write(tmp_path / "sent", images)
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


def test_a_study_is_fetched_by_c_get_into_the_spool(archive: Orthanc, tmp_path: Path) -> None:
    """Images, raw data, and a report, whose class has no room beside all the others in one association."""
    peer = pacs(archive)
    images = Phantom(name="get").datasets()
    for image, sop_class in zip(images, (RawDataStorage, BasicTextSRStorage), strict=False):
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = sop_class
    assert are_stored(peer, write(tmp_path / "sent", images))
    spool = Spool(tmp_path / "spool", SECRET, free_mark_bytes=0)

    pulled = get_study(line_to(peer, calling_aet="VIGIL"), images[0].StudyInstanceUID, spool)

    kept = spool.instances(spool.key_of(images[0].StudyInstanceUID))
    assert (pulled.completed, pulled.failed) == (len(images), 0)
    assert {dcmread(one.path).SOPInstanceUID for one in kept} == {image.SOPInstanceUID for image in images}
    assert list(spool.incoming.iterdir()) == []


def test_a_study_is_fetched_by_c_move_to_the_node(archive: Orthanc, tmp_path: Path) -> None:
    peer = pacs(archive)
    images = Phantom(name="move").datasets()
    assert are_stored(peer, write(tmp_path / "sent", images))
    line = line_to(peer, calling_aet="VIGIL")
    sender = peer.model_copy(update={"roles": frozenset({Role.SENDER})})
    with node(tmp_path, Peers((sender,))) as (receiver, _):
        archive.knows(aet="VIGIL", port=receiver.port)
        pulled = move_study(line, images[0].StudyInstanceUID, destination_aet="VIGIL")
        kept = list((tmp_path / "spool").glob("*/*.dcm"))
        with pytest.raises(DestinationRefusedError):
            move_study(line, images[0].StudyInstanceUID, destination_aet="NOBODY")

    assert (pulled.completed, pulled.failed) == (len(images), 0)
    assert len(kept) == len(images)


@pytest.mark.skipif(not DICOMWEB, reason="orthanc-dicomweb is not installed")
def test_a_study_is_fetched_by_wado_as_the_archive_holds_it(archive: Orthanc, tmp_path: Path) -> None:
    peer = pacs(archive)
    images = Phantom(name="wado").datasets()
    sent = write(tmp_path / "sent", images)
    assert all(receipt.is_stored for receipt in open_destination(peer, calling_aet="VIGIL").send(sent))
    spool = Spool(tmp_path / "spool", SECRET, free_mark_bytes=0)
    web = WebPeer(url=f"http://127.0.0.1:{archive.http_port}/dicom-web")

    landed = land_study(web.retrieve_study(images[0].StudyInstanceUID), spool, source="web", limit=1024**2)

    kept = spool.instances(spool.key_of(images[0].StudyInstanceUID))
    assert [one.failure for one in landed] == [None] * len(images)
    assert {one.header().sender for one in kept} == {"web"}
    assert {dcmread(one.path).PixelData for one in kept} == {dcmread(path).PixelData for path in sent}


def test_a_peer_is_tested_step_by_step(archive: Orthanc) -> None:
    findings = {finding.step: finding for finding in probe(pacs(archive), calling_aet="VIGIL")}

    assert [step for step, finding in findings.items() if not finding.is_ok] == ["worklist"]
    assert not findings["worklist"].is_needed
    assert {"name", "connection", "association", "echo", "result seg", "result sc", "result sr"} <= set(
        findings
    )


def test_a_peer_that_is_away_is_told_from_one_that_does_not_exist() -> None:
    away = Peer(name="a", aet="A", host="127.0.0.1", port=free_port(), roles=frozenset({Role.DESTINATION}))
    unknown = away.model_copy(update={"host": "no-such-host.invalid"})

    assert [(one.step, one.is_ok) for one in probe(away, calling_aet="VIGIL")] == [
        ("name", True),
        ("connection", False),
    ]
    assert [(one.step, one.is_ok) for one in probe(unknown, calling_aet="VIGIL")] == [("name", False)]


ORDER = """
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH [{accession}]
(0010,0010) PN [DOE^JANE]
(0010,0020) LO [4711]
(0020,000d) UI [1.2.276.0.7230010.3.2.101]
(0032,1060) LO [HEAD]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [MR]
(0040,0001) AE [MR1]
(0040,0002) DA [20260101]
(0040,0003) TM [120000]
(0040,0006) PN [ROE]
(0040,0007) LO [HEAD]
(0040,0009) SH [SPD1]
(0040,0010) SH [MR]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH [RP1]
(0040,1003) SH [{priority}]
"""


@pytest.mark.skipif(not (shutil.which("wlmscpfs") and shutil.which("dump2dcm")), reason="no wlmscpfs")
def test_the_worklist_says_how_urgent_an_order_is(tmp_path: Path) -> None:
    folder = tmp_path / "WL"
    folder.mkdir()
    (folder / "lockfile").touch()
    for accession, priority in (("ACC1", "STAT"), ("ACC2", "LOW")):
        text = tmp_path / f"{accession}.dump"
        text.write_text(ORDER.format(accession=accession, priority=priority))
        subprocess.run(
            ["dump2dcm", str(text), str(folder / f"{accession}.wl")], check=True, capture_output=True
        )
    port = free_port()
    server = subprocess.Popen(["wlmscpfs", "-dfp", str(tmp_path), str(port)], stderr=subprocess.DEVNULL)
    line = Line(host="127.0.0.1", port=port, calling_aet="VIGIL", called_aet="WL")
    try:
        wait_for(lambda: accepts_connections(port))
        priorities = [ordered_priority(line, accession) for accession in ("ACC1", "ACC2", "ACC3")]
    finally:
        server.terminate()
        server.wait(60)

    assert priorities == ["STAT", "LOW", None]


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.postgres
@pytest.mark.parametrize("way", [Confirm.COMMITMENT, Confirm.QUERY])
def test_a_result_ends_as_stored_at_orthanc(
    archive: Orthanc, store: Store, tmp_path: Path, way: Confirm
) -> None:
    delivery_id = a_waiting_result(store, tmp_path / "results")
    peer = pacs(archive, way)
    peers = Peers((peer,))
    with node(tmp_path, peers) as (receiver, mailbox):
        archive.knows(aet="VIGIL", port=receiver.port)
        delivery = Delivery(
            store=store,
            objects=Unchecked(tmp_path / "results"),
            destinations=Destinations(peers, calling_aet="VIGIL"),
            attempts=3,
            mailbox=mailbox,
        )
        wait_for(lambda: ended(store, delivery, delivery_id))

    with store.transaction() as session:
        row = session.get(DeliveryRow, delivery_id)
        assert row is not None
        assert (row.status, row.confirmed_by, row.fallback) == (DeliveryStatus.STORED, way.value, None)
        assert row.attempts == 1


@pytest.mark.postgres
def test_a_result_that_orthanc_lost_is_sent_again(archive: Orthanc, store: Store, tmp_path: Path) -> None:
    delivery_id = a_waiting_result(store, tmp_path / "results")
    peers = Peers((pacs(archive, Confirm.QUERY),))
    delivery = Delivery(
        store=store,
        objects=Unchecked(tmp_path / "results"),
        destinations=Destinations(peers, calling_aet="VIGIL"),
        attempts=3,
        mailbox=Mailbox(tmp_path / "signals"),
    )
    before = set(archive.instances())
    delivery.run(delivery_id)
    (lost,) = set(archive.instances()) - before
    archive.delete(lost)

    wait_for(lambda: ended(store, delivery, delivery_id))

    with store.transaction() as session:
        row = session.get(DeliveryRow, delivery_id)
        assert row is not None
        assert (row.status, row.attempts, row.fallback) == (
            DeliveryStatus.STORED,
            2,
            "missing_at_destination",
        )
    assert set(archive.instances()) - before == {lost}  # Orthanc derives its names from the UIDs


def ended(store: Store, delivery: Delivery, delivery_id: int) -> bool:
    delivery.run(delivery_id)
    with store.transaction() as session:
        row = session.get(DeliveryRow, delivery_id)
        return row is not None and row.ended_at is not None


def a_waiting_result(store: Store, results: Path) -> int:
    """A result of its own file that waits to be sent to the archive."""
    name = f"stored-{results.parent.name}"
    (path,) = write(results, [mr_image(name, 0, np.zeros((4, 4), np.uint16))])
    one = reference(path)
    result = StoredResult(
        kind="sr",
        sop_class_uid=one.sop_class_uid,
        sop_instance_uid=one.sop_instance_uid,
        path=path.name,
        sha256="0" * 64,
        bytes=path.stat().st_size,
    )
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=NOON)
        job = jobs.begin(session, score_id or 0)
        assert job is not None
        outcome = dataclasses.replace(SCORED, results=(result,))
        (delivery_id,) = jobs.record(session, job, outcome, lambda _: ["pacs"]) or []
    return delivery_id


@pytest.mark.parametrize("protocol", ["dimse", "dicomweb"])
def test_the_studies_of_some_days_are_fetched_for_a_calibration(
    archive: Orthanc, tmp_path: Path, protocol: str
) -> None:
    """One study lies within the days, one before them; both were sent by C-STORE."""
    if protocol == "dicomweb" and not DICOMWEB:
        pytest.skip("orthanc-dicomweb is not installed")
    peer = pacs(archive)
    wanted, older = (Phantom(name=f"{name}-{protocol}").datasets() for name in ("wanted", "older"))
    for images, day in ((wanted, "20260302"), (older, "20260228")):
        for image in images:
            image.StudyDate = day
        sent = open_destination(peer, calling_aet="VIGIL").send(write(tmp_path / day, images))
        assert all(receipt.is_stored for receipt in sent)
    if protocol == "dicomweb":
        peer = Peer(
            name="web",
            roles=frozenset({Role.ARCHIVE}),
            protocol="dicomweb",
            url=f"http://127.0.0.1:{archive.http_port}/dicom-web",
        )
    spool = Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)
    march = {"first": date(2026, 3, 1), "last": date(2026, 3, 31), "modality": "MR", "most": 1000}

    failed = fetch(peer, spool, Settings(data=tmp_path, aet="VIGIL"), **march)

    assert failed == 0
    assert len(spool.instances(spool.key_of(wanted[0].StudyInstanceUID))) == len(wanted)
    assert spool.instances(spool.key_of(older[0].StudyInstanceUID)) == []

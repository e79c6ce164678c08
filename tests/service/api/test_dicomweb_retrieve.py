"""WADO-RS (PS3.18 10.4)."""

import io
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from sqlalchemy import select, update

from dicom_node.multipart import PartReader, boundary_of
from service.admission import Admission
from service.api import create_app
from service.holdings import Holdings
from service.packing import Packing
from service.settings import Settings
from service.storage.folder import FolderStore
from service.storage.scratch import Scratch
from service.store import Store, packs
from service.store.objects import Unchecked
from service.store.tables import AuditRow, InstanceRow, RevisionRow, StudyRow
from service.study import Whereabouts
from tests.archive import Archive
from tests.fakes import FixedCalibration
from tests.phantoms import Phantom, mr_image, uid
from tests.seeds import MODEL
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

ANY_DICOM = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
ANY_FRAME = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
PLAIN_FRAME = {"Accept": 'multipart/related; type="application/octet-stream"'}


@pytest.fixture
def archive(store: Store, settings: Settings) -> Archive:
    return Archive(store, settings)


def address(name: str, number: int | None = None) -> str:
    found = f"/dicom-web/studies/{uid(name, 'study')}"
    if number is None:
        return found
    return f"{found}/series/{uid(name, 'series')}/instances/{uid(name, 'instance', str(number))}"


def parts(answer: Any) -> list[bytes]:
    """Parts of a message."""
    assert answer.status_code == 200, answer.text
    found: list[bytearray] = []
    reader = PartReader(boundary_of(answer.headers["content-type"]))
    for kind, value in reader.feed(answer.content):
        if kind == "begin":
            found.append(bytearray())
        elif kind == "data":
            found[-1] += bytes(value)
    reader.close()
    return [bytes(part) for part in found]


def bytes_of(dataset: FileDataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def compressed(name: str) -> FileDataset:
    """An image in RLE, of two frames."""
    dataset = mr_image(name, 0, np.arange(2 * 8 * 6, dtype=np.uint16).reshape(2, 8, 6))
    dataset.NumberOfFrames = 2
    dataset.compress(RLELossless, generate_instance_uid=False)
    return dataset


def test_instances_come_as_they_were_received(client: TestClient, archive: Archive) -> None:
    datasets = Phantom(name="a").datasets()
    archive.receive(datasets)

    whole = parts(client.get(address("a"), headers=ANY_DICOM))
    (one,) = parts(client.get(address("a", 2), headers=ANY_DICOM))
    alone = client.get(address("a", 2), headers={"Accept": "application/dicom"})

    assert whole == [bytes_of(dataset) for dataset in datasets]
    assert one == alone.content == whole[2]
    assert alone.headers["content-type"].startswith("application/dicom; transfer-syntax=1.2.840.10008.1.2.1")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("", 200),
        (f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}', 200),
        (f'multipart/related; type="application/dicom"; transfer-syntax={RLELossless}', 406),
        ('multipart/related; type="application/dicom+xml"', 406),
        ("text/html", 406),
        ("nonsense", 406),
    ],
)
def test_what_is_not_held_is_not_acceptable(
    client: TestClient, archive: Archive, accept: str, status: int
) -> None:
    archive.receive([mr_image("a", 0, np.zeros((8, 6), np.uint16))])
    assert client.get(address("a", 0), headers={"Accept": accept}).status_code == status


def test_metadata_names_long_values_by_an_address_that_holds_them(
    client: TestClient, archive: Archive
) -> None:
    image = mr_image("a", 0, np.zeros((8, 6), np.uint16))
    image.ICCProfile = bytes(range(256)) * 8
    image.EchoTime = 3.5
    image.PatientName = "Phäntom^One"
    image.SpecificCharacterSet = "ISO_IR 100"
    archive.receive([image])

    answer = client.get(f"{address('a')}/metadata", headers={"Accept": "application/dicom+json"})
    (document,) = answer.json()

    assert answer.headers["content-type"] == "application/dicom+json"
    assert document["00180081"] == {"vr": "DS", "Value": [3.5]}
    assert document["00100010"]["Value"] == [{"Alphabetic": "Phäntom^One"}]
    assert document["00080005"]["Value"] == ["ISO_IR 192"]
    assert client.get(document["00282000"]["BulkDataURI"]).status_code == 200
    assert parts(client.get(document["00282000"]["BulkDataURI"], headers=PLAIN_FRAME)) == [image.ICCProfile]
    assert parts(client.get(document["7FE00010"]["BulkDataURI"], headers=ANY_FRAME)) == [image.PixelData]
    assert client.get(f"{address('a', 0)}/bulkdata/00420011", headers=ANY_FRAME).status_code == 404
    assert client.get(f"{address('a', 0)}/bulkdata/../x", headers=ANY_FRAME).status_code in {404, 422}


def test_frames_are_stored_bytes_or_decoded_ones(client: TestClient, archive: Archive) -> None:
    archive.receive([compressed("a")])
    plain = np.arange(2 * 8 * 6, dtype="<u2").reshape(2, 8, 6)

    stored = client.get(f"{address('a', 0)}/frames/1,2", headers=ANY_FRAME)
    decoded = parts(client.get(f"{address('a', 0)}/frames/2,1", headers=PLAIN_FRAME))
    image = client.get(f"{address('a', 0)}/frames/2", headers={"Accept": "image/dicom-rle"})

    assert f"transfer-syntax={RLELossless}" in stored.text
    assert decoded == [plain[1].tobytes(), plain[0].tobytes()]
    assert image.content == parts(stored)[1]
    assert client.get(f"{address('a', 0)}/frames/1", headers={"Accept": "image/jls"}).status_code == 406


@pytest.mark.parametrize(
    ("frames", "status"), [("3", 404), ("0", 400), (",", 400), ("1,,2", 400), ("x", 422), ("9" * 12, 400)]
)
def test_frames_that_are_not_there_are_problems(
    client: TestClient, archive: Archive, frames: str, status: int
) -> None:
    archive.receive([compressed("a")])
    assert client.get(f"{address('a', 0)}/frames/{frames}", headers=ANY_FRAME).status_code == status


def test_a_picture_shows_the_window_that_is_asked_for(client: TestClient, archive: Archive) -> None:
    archive.receive([mr_image("a", 0, np.array([[0, 100], [200, 300]], np.uint16))])
    url = f"{address('a', 0)}/rendered"

    def shown(query: str) -> list[int]:
        answer = client.get(f"{url}?{query}", headers={"Accept": "image/png"})
        assert answer.headers["content-type"] == "image/png"
        return [int(value) for value in np.asarray(Image.open(io.BytesIO(answer.content))).ravel()]

    assert shown("") == [0, 85, 170, 255]
    assert shown("window=150.5,101,linear") == [0, 0, 255, 255]
    assert client.get(url).headers["content-type"] == "image/jpeg"
    assert client.get(f"{url}?window=1,0").status_code == 400
    assert client.get(f"{url}?viewport=0,4").status_code == 400
    for place in (address("a"), address("a", 0)):
        assert client.get(f"{place}/thumbnail", headers={"Accept": "image/png"}).status_code == 200


def test_results_are_held_beside_what_was_received(
    client: TestClient, archive: Archive, settings: Settings
) -> None:
    image = mr_image("a", 0, np.zeros((8, 6), np.uint16))
    key = archive.receive([image])
    result = mr_image("a", 7, np.ones((4, 4), np.uint16))
    result.SeriesInstanceUID = uid("a", "result")
    archive.keep(key, "sc", result)
    url = f"{address('a')}/series/{uid('a', 'result')}/instances/{result.SOPInstanceUID}"

    (sent,) = parts(client.get(url, headers=ANY_DICOM))
    assert dcmread(io.BytesIO(sent)).PixelData == result.PixelData
    assert len(parts(client.get(address("a"), headers=ANY_DICOM))) == 2

    (stored,) = settings.results_folder.glob("*/*.dcm")
    stored.write_bytes(sent[:-2] + b"\1\1")
    assert client.get(url, headers=ANY_DICOM).status_code == 404


def test_damaged_bytes_never_leave_as_an_instance(
    client: TestClient, archive: Archive, settings: Settings
) -> None:
    archive.receive([mr_image("a", 0, np.zeros((8, 6), np.uint16))])
    (path,) = settings.spool_folder.glob("*/*.dcm")
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    answer = client.get(address("a", 0), headers=ANY_DICOM)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:vigil:problem:pack-damaged")


def test_what_was_deleted_is_gone_and_what_never_was_is_unknown(
    client: TestClient, archive: Archive, store: Store
) -> None:
    archive.receive([mr_image("a", 0, np.zeros((8, 6), np.uint16))])
    with store.transaction() as session:
        session.execute(update(InstanceRow).values(is_deleted=True))
        session.execute(update(StudyRow).values(bytes_are=Whereabouts.DELETED))
    assert client.get(address("a")).status_code == 410
    assert client.get(address("a", 0)).json()["type"] == "urn:vigil:problem:deleted"
    assert client.get(address("b")).status_code == 404


def test_who_fetches_is_written_down_once_in_a_while(
    client: TestClient, archive: Archive, store: Store
) -> None:
    key = archive.receive(Phantom(name="audited").datasets())
    for number in range(3):
        client.get(f"{address('audited', number)}/frames/1", headers=ANY_FRAME)
    client.get(f"{address('audited')}/metadata")
    with store.transaction() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == "dicomweb.retrieved")).all()
    assert [(row.study_key, row.detail) for row in rows] == [
        (key, {"kind": "frames"}),
        (key, {"kind": "metadata"}),
    ]


def test_an_instance_comes_out_of_its_pack(store: Store, settings: Settings, tmp_path: Path) -> None:
    """Where the received files have left the node."""
    archive = Archive(store, settings)
    datasets = Phantom(name="packed").datasets()
    key = archive.receive(datasets)
    objects = FolderStore(tmp_path / "store")
    scratch = Scratch(tmp_path / "scratch", most_bytes=None)
    with store.transaction() as session:
        packs.want(session, session.scalars(select(RevisionRow.id)).one())
    Packing(
        store=store,
        spool=archive.spool,
        objects=objects,
        admission=Admission(model_hash=lambda: "m", config_digest=FixedCalibration(digest="c").config_digest),
        scratch=scratch,
        stop=Event(),
    ).step(datetime.now(UTC))
    for path in (settings.spool_folder / key).glob("*.dcm"):
        path.unlink()
    holdings = Holdings(
        spool_folder=settings.spool_folder,
        results=Unchecked(settings.results_folder),
        objects=objects,
        scratch=scratch,
    )
    app = create_app(store=store, settings=settings, model=MODEL, holdings=holdings)
    client = TestClient(app, base_url="http://127.0.0.1:8080")

    (one,) = parts(client.get(address("packed", 3), headers=ANY_DICOM))
    assert one == bytes_of(datasets[3])
    assert parts(client.get(address("packed"), headers=ANY_DICOM)) == [bytes_of(one) for one in datasets]
    scratch.close()

"""Clients nobody here wrote ask Vigil's DICOMweb: dicomweb-client, and Orthanc's plugin."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import JPEGLSLossless
from websockets.sync.client import connect

from service.api import create_app
from service.settings import Settings
from service.store import Store
from tests.archive import Archive
from tests.conftest import empty
from tests.end_to_end.peers import DICOMWEB, MISSING, orthanc
from tests.phantoms import Phantom, mr_image, uid
from tests.seeds import Seed, plant
from tests.served import served

pytestmark = [pytest.mark.postgres, pytest.mark.peers]

PIXELS = np.arange(2 * 8 * 6, dtype=np.uint16).reshape(2, 8, 6)
STUDY, SERIES = uid("peer", "study"), uid("peer", "series")


def compressed() -> FileDataset:
    dataset = mr_image("peer", 90, PIXELS)
    dataset.NumberOfFrames = 2
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    return dataset


@pytest.fixture(scope="module")
def sent() -> list[FileDataset]:
    return [*Phantom(name="peer").datasets(), compressed()]


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, database_url: str, sent: list[FileDataset]
) -> Iterator[str]:
    """Address of the DICOMweb services over one study."""
    store = Store.open(database_url)
    empty(store)
    settings = Settings(data=tmp_path_factory.mktemp("data"), access="open")
    Archive(store, settings).receive(sent)
    with served(create_app(store=store, settings=settings)) as base:
        yield f"{base}/dicom-web"
    store.close()


def test_a_foreign_client_finds_and_fetches_all_of_a_study(address: str, sent: list[FileDataset]) -> None:
    client = DICOMwebClient(address)
    (study,) = client.search_for_studies(search_filters={"PatientName": "Phantom*"}, fields=["StudyID"])
    assert study["0020000D"]["Value"] == [STUDY]
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(client.search_for_instances(STUDY, limit=3)) == 3
    assert len(client.search_for_series(get_remaining=True)) == 1
    assert {str(one.SOPInstanceUID) for one in client.retrieve_study(STUDY)} == {
        str(one.SOPInstanceUID) for one in sent
    }
    metadata = client.retrieve_series_metadata(STUDY, SERIES)
    assert len(metadata) == len(sent)


def test_a_foreign_client_reads_frames_stored_and_decoded(address: str, sent: list[FileDataset]) -> None:
    client = DICOMwebClient(address)
    place = (STUDY, SERIES, str(sent[-1].SOPInstanceUID))
    plain = client.retrieve_instance_frames(
        *place, [2, 1], media_types=(("application/octet-stream", "1.2.840.10008.1.2.1"),)
    )
    assert plain == [PIXELS[1].tobytes(), PIXELS[0].tobytes()]
    stored = client.retrieve_instance_frames(*place, [1], media_types=(("image/jls", JPEGLSLossless),))
    assert stored[0].startswith(b"\xff\xd8")
    picture = client.retrieve_instance_rendered(*place, media_types=("image/png",))
    assert Image.open(io.BytesIO(picture)).size == (6, 8)
    one = client.retrieve_instance(*place)
    assert one.file_meta.TransferSyntaxUID == JPEGLSLossless


def test_a_watcher_is_told_over_a_real_websocket(address: str, database_url: str) -> None:
    store = Store.open(database_url)
    with store.transaction() as session:
        plant(session, Seed(name="watched", p_value=0.1))
    store.close()
    channel = address.replace("http", "ws", 1)
    (item,) = httpx.get(f"{address}/workitems", timeout=30).json()
    name = item["00080018"]["Value"][0]
    httpx.post(f"{address}/workitems/{name}/subscribers/WATCHER", timeout=30).raise_for_status()
    with connect(f"{channel}/subscribers/WATCHER") as told:
        claim = {
            "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
            "00081195": {"vr": "UI", "Value": ["2.25.7"]},
        }
        httpx.put(f"{address}/workitems/{name}/state", json=[claim], timeout=30).raise_for_status()
        kinds = [json.loads(told.recv(timeout=30))["00001002"]["Value"][0] for _ in range(2)]
    assert kinds == [5, 1]


@pytest.mark.skipif(bool(MISSING) or not DICOMWEB, reason="Orthanc or its DICOMweb plugin is not installed")
def test_orthanc_queries_and_retrieves_a_study(tmp_path: Path, address: str, sent: list[FileDataset]) -> None:
    servers = {"Enable": True, "Servers": {"vigil": {"Url": address}}}
    with orthanc(tmp_path / "orthanc", plugins=DICOMWEB, DicomWeb=servers) as peer:
        base = f"http://127.0.0.1:{peer.http_port}/dicom-web/servers/vigil"
        found = httpx.post(
            f"{base}/qido", json={"Uri": "/studies", "Arguments": {"PatientID": "PH-peer"}}, timeout=30
        )
        (row,) = found.json()
        assert row["0020000D"]["Value"] == STUDY
        done = httpx.post(
            f"{base}/retrieve", json={"Resources": [{"Study": STUDY}], "Synchronous": True}, timeout=60
        )
        assert done.status_code == 200, done.text
        deadline = time.monotonic() + 60
        while len(peer.instances()) < len(sent) and time.monotonic() < deadline:
            time.sleep(0.2)
        kept = [dcmread(io.BytesIO(peer.file(one))) for one in peer.instances()]
    by_uid = {one.SOPInstanceUID: one for one in kept}
    assert {one.SOPInstanceUID: one.PixelData for one in sent} == {
        name: one.PixelData for name, one in by_uid.items()
    }

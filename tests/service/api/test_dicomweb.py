from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.spool import Spool
from service.api import create_app
from service.api.dicomweb import SENDER
from service.settings import Settings
from service.store import Store
from tests.phantoms import mr_image, write
from tests.web_client import TestClient

TYPE = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=edge'}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, access="open", accept_stow=True, free_mark_mb=1, max_instance_mb=1)


@pytest.fixture
def client(settings: Settings) -> TestClient:
    """Without a database: what comes in needs the disk alone."""
    store = Store.open("postgresql://nobody@127.0.0.1:1/nothing")
    return TestClient(create_app(store=store, settings=settings), base_url="http://127.0.0.1:8080")


def images(folder: Path, count: int = 2) -> list[Path]:
    return write(folder / "sent", [mr_image("stow", n, np.full((8, 8), n, np.uint16)) for n in range(count)])


def message(*parts: bytes) -> bytes:
    head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
    return b"\r\n".join(head + part for part in parts) + b"\r\n--edge--\r\n"


def spooled(settings: Settings) -> list[Path]:
    return sorted(settings.spool_folder.glob("*/*.dcm"))


def test_instances_are_in_the_spool_when_the_answer_says_so(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    sent = images(tmp_path)

    answer = client.post(
        "/dicom-web/studies", content=message(*(path.read_bytes() for path in sent)), headers=TYPE
    )

    assert answer.status_code == 200
    assert len(answer.json()["00081199"]["Value"]) == 2
    kept = [dcmread(path) for path in spooled(settings)]
    assert {one.SOPInstanceUID for one in kept} == {dcmread(path).SOPInstanceUID for path in sent}
    assert {one.file_meta.SourceApplicationEntityTitle for one in kept} == {SENDER}
    assert list(Spool(settings.spool_folder, b"s" * 32, free_mark_bytes=0).incoming.iterdir()) == []


def test_one_bad_part_fails_alone(client: TestClient, settings: Settings, tmp_path: Path) -> None:
    (good,) = images(tmp_path, 1)

    answer = client.post("/dicom-web/studies", content=message(b"no DICOM", good.read_bytes()), headers=TYPE)

    assert answer.status_code == 202
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
    assert len(spooled(settings)) == 1
    (kept,) = (settings.data / "quarantine").iterdir()
    assert kept.read_bytes() == b"no DICOM"


def test_a_part_beyond_the_limit_fails_and_the_next_is_taken(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    (good,) = images(tmp_path, 1)

    answer = client.post(
        "/dicom-web/studies", content=message(b"x" * (2 << 20), good.read_bytes()), headers=TYPE
    )

    assert answer.status_code == 202
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
    assert len(spooled(settings)) == 1


def test_a_message_of_too_many_parts_is_left_at_the_last_that_is_taken(
    client: TestClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.services.landing.MOST_INSTANCES", 2)
    sent = message(*(path.read_bytes() for path in images(tmp_path, 3)))

    answer = client.post("/dicom-web/studies", content=sent, headers=TYPE)

    assert answer.status_code == 400
    assert "more than 2 parts" in answer.json()["detail"]
    assert len(spooled(settings)) == 2


def test_an_instance_of_another_study_is_not_taken(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    (path,) = images(tmp_path, 1)

    other = client.post("/dicom-web/studies/1.2.3", content=message(path.read_bytes()), headers=TYPE)
    same = client.post(
        f"/dicom-web/studies/{dcmread(path).StudyInstanceUID}",
        content=message(path.read_bytes()),
        headers=TYPE,
    )

    assert (other.status_code, same.status_code) == (409, 200)
    assert len(spooled(settings)) == 1
    assert [kept.suffixes[0] for kept in (settings.data / "quarantine").iterdir()] == [".mismatch"]


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "application/dicom"}, b"x", 415),
        (TYPE, b"--edge\r\n\r\ncut", 400),
        (TYPE, b"--edge--", 400),
    ],
)
def test_what_is_no_such_message_is_refused(
    client: TestClient, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = client.post("/dicom-web/studies", content=content, headers=headers)

    assert answer.status_code == status


def test_nothing_is_taken_unless_it_is_switched_on(tmp_path: Path) -> None:
    store = Store.open("postgresql://nobody@127.0.0.1:1/nothing")
    off = TestClient(
        create_app(store=store, settings=Settings(data=tmp_path, access="open")),
        base_url="http://127.0.0.1:8080",
    )

    answer = off.post("/dicom-web/studies", content=message(b"x"), headers=TYPE)

    assert answer.status_code == 503
    assert answer.json()["type"].endswith("stow-is-off")

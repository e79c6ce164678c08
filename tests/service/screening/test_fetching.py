import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.peer import Peer, Pull
from dicom_node.services.dicomweb import WebPeer
from dicom_node.spool import Spool
from service.api import create_app
from service.errors import SettingsError
from service.screening.fetching import Fetcher, Query, read_list
from service.screening.run import Source
from service.settings import Settings
from service.store import Store, cohorts
from service.store.tables import CohortStudyRow
from service.study import MemberState
from tests.archive import Archive
from tests.phantoms import Phantom
from tests.served import served

UID = "1.2.840.99.1"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("A1\n\nA2\nA1\n", ["A1", "A2"]),
        ("name,Accession_Number\nDoe,A1\nRoe,A2\n", ["A1", "A2"]),
        (f"\ufeffStudyInstanceUID,x\n{UID},1\n", [UID]),
        (f"{UID}\n", [UID]),
    ],
)
def test_a_list_is_text_or_csv_and_names_each_once(tmp_path: Path, content: str, expected: list[str]) -> None:
    path = tmp_path / "list.csv"
    path.write_text(content, encoding="utf-8")
    assert list(read_list(path)) == expected


def test_a_search_is_split_into_base_and_query() -> None:
    found = Query.of("https://pacs:8042/dicom-web/studies?PatientID=1&Modality=MR")
    assert found == Query("https://pacs:8042/dicom-web", {"PatientID": "1", "Modality": "MR"})


@pytest.mark.parametrize(
    "given",
    [
        "https://pacs/dicom-web",
        "https://pacs/dicom-web/studies/1.2",
        "https://me:secret@pacs/studies",
        "/no/such",
    ],
)
def test_a_source_that_cannot_be_read_is_refused_before_anything_starts(given: str) -> None:
    with pytest.raises(SettingsError):
        Source(given=given).check()


def test_a_list_needs_a_peer(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("A1\n")
    with pytest.raises(SettingsError, match="--from"):
        Source(given=str(tmp_path / "list")).check()


def test_a_source_is_kept_as_a_pseudonym_and_the_same_again_is_the_same(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)
    (tmp_path / "Doe Jane").mkdir()
    source = Source(given=str(tmp_path / "Doe Jane"))
    assert source.digest(spool.key_of) == Source(given=f"{tmp_path}/./Doe Jane/").digest(spool.key_of)
    assert "Jane" not in source.digest(spool.key_of)


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Iterator[str]:
    """DICOMweb services over two studies; their address."""
    settings = Settings(data=tmp_path / "archive", access="open")
    there = Archive(store, settings)
    for name in ("a", "b"):
        there.receive(Phantom(name=name, shape=(3, 12, 10)).datasets())
    with served(create_app(store=store, settings=settings)) as base:
        yield f"{base}/dicom-web"


@pytest.mark.postgres
def test_a_search_is_fetched_study_by_study_and_a_second_time_not_again(
    archive: str, store: Store, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "here" / "spool", b"t" * 32, free_mark_bytes=0)
    with store.transaction() as session:
        cohort = cohorts.begin(session, name="a", source="s", q=0.1, actor="me").id
    peer = Peer(name="dicomweb", roles=frozenset({"archive"}), protocol="dicomweb", url=archive)
    wanted = list(WebPeer.of(peer).search_studies({}))
    told: list[int] = []
    fetcher = Fetcher(
        store=store, spool=spool, cohort_id=cohort, peer=peer, way=Pull.GET, aet="VIGIL",
        max_instance_bytes=2**20, stop=threading.Event(), tell=told.append, pause_s=0.0,
    )  # fmt: skip

    for _ in range(2):
        fetcher.run([*wanted, "NO-SUCH-NUMBER", "1.2.3.4.5"])

    assert len(wanted) == 2
    assert len(list(spool.studies())) == 2
    assert sum(told) == 8
    with store.transaction() as session:
        rows = session.query(CohortStudyRow).order_by(CohortStudyRow.id).all()
        found = [(row.state, row.instances, row.reason) for row in rows]
    assert found == [
        (MemberState.COPIED, 3, None),
        (MemberState.COPIED, 3, None),
        (MemberState.LEFT_OUT, None, "not_found"),
        (MemberState.LEFT_OUT, None, "not_fetched"),
    ]

"""QIDO-RS (PS3.18 10.6)."""

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select, update

from service.settings import Settings
from service.store import Store, keeping
from service.store.tables import AuditRow, InstanceRow, ListedStudyRow, StudyRow
from service.study import Whereabouts
from tests.archive import Archive
from tests.phantoms import Phantom, mr_image, uid
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

ROOT = "/dicom-web"
TAGS = {"study": "0020000D", "series": "0020000E", "instance": "00080018"}


@pytest.fixture
def archive(store: Store, settings: Settings) -> Archive:
    return Archive(store, settings)


def study(name: str, **changes: Any) -> list[FileDataset]:
    """Two images of a study, with some attributes changed."""
    datasets = [mr_image(name, number, np.full((8, 6), number, np.uint16)) for number in range(2)]
    for dataset in datasets:
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return datasets


def found(client: TestClient, path: str, **query: str) -> list[str]:
    """UIDs of the level asked for, sorted."""
    answer = client.get(f"{ROOT}{path}", params=query)
    if answer.status_code == 204:
        return []
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    tag = TAGS[{"studies": "study", "series": "series", "instances": "instance"}[path.rsplit("/", 1)[-1]]]
    return sorted(row[tag]["Value"][0] for row in answer.json())


def test_a_study_answers_what_the_standard_names(client: TestClient, archive: Archive) -> None:
    archive.receive(study("a", ReferringPhysicianName="Ref^One"))

    (row,) = client.get(f"{ROOT}/studies").json()

    def value(tag: str) -> Any:
        return row[tag]["Value"][0]

    assert row["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Phantom^One"}]}
    assert (value("00100020"), value("00100030"), value("00100040")) == ("PH-a", "19700101", "O")
    assert (value("00080020"), value("00080030"), value("00080050")) == ("20260301", "101500", "A1")
    assert (value("0020000D"), value("00200010"), value("00081030")) == (
        uid("a", "study"),
        "1",
        "Phantom head",
    )
    assert row["00080061"]["Value"] == ["MR"]
    assert (value("00201206"), value("00201208"), value("00080056")) == (1, 2, "ONLINE")
    assert value("00080090") == {"Alphabetic": "Ref^One"}
    assert value("00081190") == f"http://127.0.0.1:8080/dicom-web/studies/{uid('a', 'study')}"


MATCHING = (
    ("PatientName", "phan*", "ab"),
    ("PatientName", "Phantom^One", "ab"),
    ("PatientName", "Phantom", ""),
    ("PatientName", "%", ""),
    ("PatientID", "PH-?", "ab"),
    ("PatientID", "PH-a", "a"),
    ("00100020", "ph-a", ""),
    ("StudyDate", "20260301", "a"),
    ("StudyDate", "20260302-", "b"),
    ("StudyDate", "-20260301", "a"),
    ("StudyDate", "20260228-20260401", "ab"),
    ("StudyTime", "1015", "ab"),
    ("StudyTime", "10-1014", ""),
    ("PatientBirthDate", "19700101", "ab"),
    ("ModalitiesInStudy", "CT", "b"),
    ("ModalitiesInStudy", "CT,MR", "ab"),
    ("AccessionNumber", "A?", "ab"),
    ("StudyDescription", "Phantom*", "ab"),
    ("SOPClassesInStudy", "1.2.840.10008.5.1.4.1.1.4", "ab"),
    ("PatientID", "", "ab"),
)


def test_studies_match_as_the_standard_says(client: TestClient, archive: Archive) -> None:
    archive.receive(study("a"))
    archive.receive(study("b", StudyDate="20260401", Modality="CT"))
    for name, value, names in MATCHING:
        expected = sorted(uid(one, "study") for one in names)
        assert found(client, "/studies", **{name: value}) == expected, (name, value)


def test_a_list_of_uids_matches_each(client: TestClient, archive: Archive) -> None:
    for name in "abc":
        archive.receive(study(name))
    wanted = sorted(uid(name, "study") for name in "ac")
    assert found(client, "/studies", StudyInstanceUID=",".join(wanted)) == wanted
    assert found(client, "/studies", StudyInstanceUID="\\".join(wanted)) == wanted


def test_pages_follow_each_other_and_say_what_is_left(client: TestClient, archive: Archive) -> None:
    for name in "abcde":
        archive.receive(study(name))
    pages = [client.get(f"{ROOT}/studies?limit=2&offset={offset}") for offset in (0, 2, 4)]
    met = [row[TAGS["study"]]["Value"][0] for page in pages for row in page.json()]
    assert sorted(met) == sorted(uid(name, "study") for name in "abcde")
    assert [page.headers.get("warning", "") for page in pages] == [
        '299 vigil "There are 3 additional results that can be requested."',
        '299 vigil "There are 1 additional results that can be requested."',
        "",
    ]


def test_what_is_left_is_counted_up_to_a_bound(
    client: TestClient, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.search.MOST_COUNTED", 1)
    for name in "abc":
        archive.receive(study(name))
    said = [client.get(f"{ROOT}/studies?limit={limit}").headers.get("warning", "") for limit in (1, 2, 3)]
    assert said == [
        '299 vigil "There are more than 1 additional results that can be requested."',
        '299 vigil "There are 1 additional results that can be requested."',
        "",
    ]


def test_series_and_instances_are_searched_by_what_their_study_holds(
    client: TestClient, archive: Archive
) -> None:
    archive.receive(study("a"))
    archive.receive(study("b", Modality="CT"))
    sop_class = study("a")[0].SOPClassUID

    for level, count in (("series", 1), ("instances", 2)):
        assert len(found(client, f"/{level}", ModalitiesInStudy="CT")) == count
        assert found(client, f"/{level}", ModalitiesInStudy="XA") == []
        assert len(found(client, f"/{level}", SOPClassesInStudy=sop_class)) == 2 * count


def test_series_and_instances_are_found_below_and_across_studies(
    client: TestClient, archive: Archive
) -> None:
    archive.receive(Phantom(name="a").datasets())
    archive.receive(study("b"))
    a, series = uid("a", "study"), uid("a", "series")

    assert found(client, f"/studies/{a}/series") == [series]
    assert found(client, "/series") == sorted([series, uid("b", "series")])
    assert found(client, "/series", Modality="CT") == []
    instances = sorted(uid("a", "instance", str(number)) for number in range(6))
    assert found(client, f"/studies/{a}/instances") == instances
    assert found(client, f"/studies/{a}/series/{series}/instances", InstanceNumber="1") == [
        uid("a", "instance", "0")
    ]
    row = client.get(f"{ROOT}/studies/{a}/series/{series}/instances?limit=1").json()[0]
    assert [row[tag]["Value"] for tag in ("00280010", "00280011", "00280100")] == [[12], [10], [16]]
    (first,) = client.get(f"{ROOT}/studies/{a}/series").json()
    assert first["00201209"]["Value"] == [6]


@pytest.mark.parametrize(
    "query",
    [
        "PatientNam=x", "Modality=MR", "Rows=8", "StudyDate=2026", "StudyDate=20260301-x",
        "StudyInstanceUID=x", "limit=-1", "limit=x", "offset=999999999999", "includefield=Nonsense",
        "PatientID=a&PatientID=b",
        "00100010=" + "x" * 2000, "PatientName=%00", "RequestAttributesSequence.AccessionNumber=1",
    ],
)  # fmt: skip
def test_what_cannot_be_matched_is_refused_and_never_repeated(client: TestClient, query: str) -> None:
    answer = client.get(f"{ROOT}/studies?{query}")
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:vigil:problem:bad-search"
    assert query.partition("=")[2] not in answer.text


def test_fuzzy_matching_is_not_done_and_the_answer_says_so(client: TestClient, archive: Archive) -> None:
    archive.receive(study("a"))
    answer = client.get(f"{ROOT}/studies?fuzzymatching=true&PatientName=phantom*")
    assert "Only literal matching" in answer.headers["warning"]
    assert len(answer.json()) == 1


def test_an_attribute_that_is_not_kept_is_left_out_with_a_warning(
    client: TestClient, archive: Archive
) -> None:
    archive.receive(study("a"))
    assert "warning" not in client.get(f"{ROOT}/studies?includefield=00081030,PatientName").headers
    assert "includefield" in client.get(f"{ROOT}/studies?includefield=PatientComments").headers["warning"]


def test_only_json_is_answered(client: TestClient) -> None:
    assert client.get(f"{ROOT}/studies", headers={"Accept": "application/dicom+xml"}).status_code == 406


def test_a_search_is_audited_without_what_was_searched(
    client: TestClient, archive: Archive, store: Store
) -> None:
    archive.receive(study("a"))
    client.get(f"{ROOT}/studies?PatientName=Doe*")
    with store.transaction() as session:
        row = session.scalars(select(AuditRow).where(AuditRow.action == "dicomweb.searched")).one()
    assert row.detail == {"level": "study", "by": ["PatientName"], "found": 0}
    assert row.actor == "anybody on this machine"


def test_what_is_deleted_is_found_no_more(client: TestClient, archive: Archive, store: Store) -> None:
    key = archive.receive(study("a"))
    with store.transaction() as session:
        session.execute(update(StudyRow).where(StudyRow.key == key).values(bytes_are=Whereabouts.DELETING))
    assert found(client, "/studies") == []
    with store.transaction() as session:
        session.execute(update(InstanceRow).values(is_deleted=True))
        keeping.end(session, key)
        assert session.scalars(select(ListedStudyRow)).all() == []

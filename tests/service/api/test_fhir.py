"""FHIR as other systems read it: pages, searches, and who is told whom a study is about."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from sqlalchemy import select, update

from service.access import Identity, Role
from service.api import create_app
from service.settings import Settings
from service.store import Store, identities, people
from service.store.tables import AuditRow, StudyRow
from service.study import PATIENT_CONFLICT, State
from service.why import FLAGS
from tests.seeds import MODEL, MORNING, Seed, plant, study_key
from tests.web_client import TestClient
from tests.whom import told_of

pytestmark = pytest.mark.postgres

WHO = Identity(
    name="Planted^Petra",
    patient_id="P-17",
    issuer="HOSPITAL",
    accession_number="ACC-1",
    birth_date=date(1971, 2, 3),
    sex="F",
    study_uid="1.2.840.99.1",
)
KEY = study_key("a")
KINDS = ("ImagingStudy", "Observation", "DiagnosticReport", "Task", "Provenance")


@pytest.fixture
def studies(store: Store) -> None:
    with store.transaction() as session:
        plant(
            session,
            Seed(name="a", p_value=0.01),
            Seed(name="b", state=State.NOT_ASSESSABLE, received_at=MORNING + timedelta(minutes=1)),
            Seed(name="c", state=State.FAILED, received_at=MORNING + timedelta(minutes=2)),
            Seed(name="d", state=State.RECEIVED, received_at=MORNING + timedelta(minutes=3)),
        )
        identities.note(session, KEY, WHO)


@pytest.fixture
def locked(store: Store, settings: Settings, studies: None) -> TestClient:  # noqa: ARG001 - there to be read
    """Client of an application that asks who one is."""
    closed = settings.model_copy(update={"access": "sign-in"})
    app = create_app(store=store, settings=closed, model=MODEL)
    return TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


def bearer(store: Store, role: Role) -> dict[str, str]:
    with store.transaction() as session:
        _, secret = people.make_token(session, f"test {role}", role, actor="test")
    return {"Authorization": f"Bearer {secret}"}


def checked(answer: Any) -> dict[str, Any]:
    """Body of an answer that the standard's models take."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fhir+json"
    body: dict[str, Any] = answer.json()
    get_fhir_model_class(body["resourceType"]).model_validate_json(answer.text)
    return body


@pytest.mark.parametrize("kind", KINDS)
def test_every_resource_of_a_study_is_read_by_its_key(locked: TestClient, store: Store, kind: str) -> None:
    found = checked(locked.get(f"/fhir/{kind}/{KEY}", headers=bearer(store, Role.READER)))

    assert (found["resourceType"], found["id"]) == (kind, KEY)


@pytest.mark.parametrize("role", [Role.READER, Role.SERVICE])
def test_who_may_fetch_images_is_told_the_patient_and_it_stands_in_the_audit_trail(
    locked: TestClient, store: Store, role: Role
) -> None:
    headers = bearer(store, role)
    found = checked(locked.get(f"/fhir/DiagnosticReport/{KEY}", headers=headers))
    checked(locked.get("/fhir/Observation", headers=headers))

    assert found["subject"]["identifier"]["value"] == "P-17"
    with store.transaction() as session:
        looked = session.execute(
            select(AuditRow.action, AuditRow.study_key).where(AuditRow.actor == f"token:test {role}")
        ).all()
    assert [tuple(row) for row in looked] == [("study.viewed", KEY), ("list.queried", None)]


def test_a_viewer_is_told_no_identity_at_all(locked: TestClient, store: Store) -> None:
    headers = bearer(store, Role.VIEWER)

    texts = [locked.get(f"/fhir/{kind}/{KEY}", headers=headers).text for kind in KINDS]
    texts += [locked.get(f"/fhir/{kind}", headers=headers).text for kind in KINDS]

    for text in texts:
        assert told_of(("Planted", "Petra", "P-17", "ACC-1", WHO.study_uid, "1971"), text) == []


def test_what_was_searched_for_does_not_stand_in_the_audit_trail(locked: TestClient, store: Store) -> None:
    locked.get("/fhir/ImagingStudy", params={"identifier": "ACC-1"}, headers=bearer(store, Role.READER))

    with store.transaction() as session:
        details = session.scalars(select(AuditRow.detail).where(AuditRow.action == "list.queried")).all()
    assert details == [{"what": "fhir ImagingStudy", "filters": {"identifier": "withheld"}, "found": 1}]


def test_a_viewer_cannot_ask_whether_a_patient_is_here(locked: TestClient, store: Store) -> None:
    headers = bearer(store, Role.VIEWER)

    asked = locked.get("/fhir/ImagingStudy", params={"identifier": "ACC-1"}, headers=headers)

    assert asked.status_code == 403
    assert "ACC-1" not in asked.text


@pytest.mark.parametrize(
    "identifier", ["ACC-1", f"urn:dicom:uid|urn:oid:{WHO.study_uid}", f"urn:vigil:study|{KEY}"]
)
def test_a_study_is_found_by_what_others_know_it_by(
    locked: TestClient, store: Store, identifier: str
) -> None:
    params = {"identifier": identifier}

    page = checked(locked.get("/fhir/ImagingStudy", params=params, headers=bearer(store, Role.READER)))

    assert [entry["resource"]["id"] for entry in page["entry"]] == [KEY]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("Observation", {"derived-from": f"ImagingStudy/{KEY}"}),
        ("Task", {"focus": f"ImagingStudy/{KEY}"}),
        ("Provenance", {"target": f"DiagnosticReport/{KEY}"}),
        ("Task", {"_id": KEY}),
    ],
)
@pytest.mark.usefixtures("studies")
def test_a_search_by_reference_finds_the_one(client: TestClient, kind: str, params: dict[str, str]) -> None:
    page = checked(client.get(f"/fhir/{kind}", params=params))

    assert [entry["resource"]["id"] for entry in page["entry"]] == [KEY]


@pytest.mark.usefixtures("studies")
def test_pages_follow_each_other_and_hold_every_study_once(client: TestClient) -> None:
    found, address = [], "/fhir/ImagingStudy?_count=3"
    while address:
        page = checked(client.get(address))
        found += [entry["resource"]["id"] for entry in page["entry"]]
        address = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")

    assert found == [study_key(name) for name in "dcba"]


@pytest.mark.usefixtures("studies")
def test_what_was_not_judged_has_no_number_and_what_waits_has_no_report(client: TestClient) -> None:
    page = checked(client.get("/fhir/Observation"))

    numbers = {entry["resource"]["id"]: entry["resource"].get("valueQuantity") for entry in page["entry"]}
    assert set(numbers) == {study_key(name) for name in "abc"}
    assert numbers[KEY]["value"] == pytest.approx(1.0)
    assert [key for key, value in numbers.items() if value is not None] == [KEY]
    assert client.get(f"/fhir/DiagnosticReport/{study_key('d')}").status_code == 404


@pytest.mark.usefixtures("studies")
def test_while_more_images_come_the_number_is_withheld(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="e", is_pending=True))

    found = checked(client.get(f"/fhir/Observation/{study_key('e')}"))

    assert found["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"
    assert "valueQuantity" not in json.dumps(found)


@pytest.mark.usefixtures("studies")
def test_a_number_is_read_with_what_is_wrong_with_its_study(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        session.execute(update(StudyRow).where(StudyRow.key == KEY).values(flag=PATIENT_CONFLICT))

    found = checked(client.get(f"/fhir/Observation/{KEY}"))

    assert found["note"][0]["text"].startswith(FLAGS[PATIENT_CONFLICT])


def test_the_audit_trail_is_an_administrators_to_read(locked: TestClient, store: Store) -> None:
    admin = bearer(store, Role.ADMIN)
    page = checked(locked.get("/fhir/AuditEvent?_count=2", headers=admin))

    assert len(page["entry"]) == 2
    onward = next(link["url"] for link in page["link"] if link["relation"] == "next")
    second = checked(locked.get(onward, headers=admin))
    numbers = [int(entry["resource"]["id"]) for entry in page["entry"] + second["entry"]]
    assert numbers == sorted(numbers, reverse=True)
    checked(locked.get(f"/fhir/AuditEvent/{numbers[0]}", headers=admin))
    with store.transaction() as session:
        newest = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).one()
    assert newest.detail == {"what": "fhir AuditEvent", "filters": {"number": numbers[0]}, "found": 1}
    assert locked.get("/fhir/AuditEvent", headers=bearer(store, Role.OPERATOR)).status_code == 403


@pytest.mark.usefixtures("studies")
def test_the_capabilities_name_every_resource_that_is_answered(client: TestClient) -> None:
    statement = checked(client.get("/fhir/metadata"))

    named = {resource["type"] for resource in statement["rest"][0]["resource"]}
    assert named == {*KINDS, "AuditEvent"}


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/fhir/Patient", 422),
        ("/fhir/Patient/1", 422),
        (f"/fhir/Task/{'A' * 20}", 422),
        (f"/fhir/Task/{'z' * 20}", 404),
        ("/fhir/AuditEvent/0", 422),
        ("/fhir/Observation?identifier=%00", 400),
        ("/fhir/Task?_count=1000", 422),
        ("/fhir/Task?_sort=date", 422),
        ("/fhir/Task?target=DiagnosticReport/aaaaaaaaaaaaaaaaaaaa", 400),
        ("/fhir/Task?focus=Patient/1", 422),
        ("/fhir/Task?_before=-1", 422),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_problem(client: TestClient, address: str, status: int) -> None:
    expected = 403 if "AuditEvent" in address else status
    answer = client.get(address)

    assert answer.status_code == expected
    assert answer.headers["content-type"] == "application/problem+json"

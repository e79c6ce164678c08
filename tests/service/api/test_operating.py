from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from service.api import create_app
from service.settings import Settings
from service.store import Store
from service.store.tables import AuditRow, StudyRow
from service.study import DeliveryStatus, Priority, State
from tests.fakes import FixedCalibration
from tests.seeds import MODEL, Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

KEY = study_key("a")
STUDY = f"/api/v1/studies/{KEY}"
NOTHING = {"changed": False, "scores": 0, "deliveries": 0, "reason": None}


@pytest.fixture
def operator(store: Store, tmp_path: Path) -> Iterator[TestClient]:
    """Client of an application that knows what to score with."""
    app = create_app(
        store=store,
        settings=Settings(data=tmp_path, access="open"),
        model=MODEL,
        calibrations=FixedCalibration(digest="d" * 64),  # type: ignore[arg-type]
    )
    with TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False) as client:
        yield client


def newest(store: Store) -> AuditRow:
    with store.transaction() as session:
        return session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).one()


def test_a_study_is_put_aside_and_let_go_on_and_says_who_did_it(operator: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.QUEUED))
    one = {**NOTHING, "changed": True, "scores": 1}
    assert operator.post(f"{STUDY}/park").json() == one
    assert operator.post(f"{STUDY}/park").json() == NOTHING
    assert operator.post(f"{STUDY}/unpark").json() == one
    assert (newest(store).action, newest(store).actor) == ("study.unparked", "anybody on this machine")


def test_a_cancelled_study_is_scored_again_on_request(operator: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.QUEUED))
    assert operator.post(f"{STUDY}/cancel").json()["scores"] == 1
    assert operator.get(STUDY).json()["row"]["reason"] == "cancelled"
    assert operator.post(f"{STUDY}/rescore").json() == {**NOTHING, "changed": True, "scores": 1}
    assert operator.post(f"{STUDY}/rescore").json() == {**NOTHING, "reason": "in_hand"}


def test_what_the_model_in_service_has_scored_is_not_scored_again(operator: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"))
    assert operator.post(f"{STUDY}/rescore").json() == {**NOTHING, "reason": "same_model"}


def test_nothing_is_scored_again_where_nobody_knows_the_model(client: TestClient) -> None:
    answer = client.post(f"{STUDY}/rescore")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:vigil:problem:no-model")


def test_a_priority_is_raised_and_never_lowered(operator: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.QUEUED))
    assert operator.post(f"{STUDY}/priority", json={"priority": "stat"}).json()["changed"]
    assert operator.post(f"{STUDY}/priority", json={"priority": "routine"}).json() == NOTHING
    with store.transaction() as session:
        assert session.scalars(select(StudyRow.priority)).one() == Priority.STAT
    assert operator.post(f"{STUDY}/priority", json={"priority": "10"}).status_code == 422


def test_results_are_sent_again_to_where_they_are_wanted(operator: TestClient, store: Store) -> None:
    both = {"pacs": DeliveryStatus.STORED, "archive": DeliveryStatus.UNDELIVERED}
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": both}))
    headers = {"Idempotency-Key": "again"}
    for _ in range(2):
        sent = operator.post(f"{STUDY}/resend", json={"destination": "pacs"}, headers=headers)
        assert sent.json() == {**NOTHING, "changed": True, "deliveries": 1}
    with store.transaction() as session:
        actions = session.scalars(select(AuditRow.action).where(AuditRow.study_key == KEY)).all()
    assert actions.count("study.resent") == 1
    assert operator.post(f"{STUDY}/resend", json={}).json()["deliveries"] == 2
    nowhere = operator.post(f"{STUDY}/resend", json={"destination": "<b>elsewhere</b>"})
    assert (nowhere.status_code, nowhere.json()["type"]) == (404, "urn:vigil:problem:nothing-to-send")
    assert "elsewhere" not in nowhere.text

"""UPS-RS (PS3.18 11, PS3.4 CC)."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from service.access import Identity
from service.api import create_app
from service.api.workitem_documents import document_of
from service.settings import Settings
from service.store import Store, audit, identities, marks, work, workitems
from service.store.tables import AuditRow, RevisionRow, ScoreRow, StudyRow, WorkitemRow
from service.study import Priority, State
from tests.seeds import MODEL, Seed, plant
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

ROOT = "/dicom-web/workitems"
ALL = f"{ROOT}/1.2.840.10008.5.1.4.34.5/subscribers"
LOCK, OTHER = "2.25.111", "2.25.222"
CLAIMED, DONE, GIVEN_UP = "IN PROGRESS", "COMPLETED", "CANCELED"


def body(state: str, lock: str | None = LOCK) -> list[dict[str, Any]]:
    document: dict[str, Any] = {"00741000": {"vr": "CS", "Value": [state]}}
    if lock is not None:
        document["00081195"] = {"vr": "UI", "Value": [lock]}
    return [document]


def change(client: TestClient, uid: str, state: str, lock: str | None = LOCK) -> Any:
    return client.put(f"{ROOT}/{uid}/state", json=body(state, lock))


def listed(client: TestClient, **query: str) -> list[dict[str, Any]]:
    answer = client.get(ROOT, params=query)
    assert answer.status_code in {200, 204}, answer.text
    found: list[dict[str, Any]] = answer.json() if answer.content else []
    return found


def value(document: dict[str, Any], tag: str) -> Any:
    return document[tag].get("Value", [None])[0]


def item_of(client: TestClient, store: Store, seed: Seed) -> str:
    """UID of a study's work item, the study being the only one."""
    with store.transaction() as session:
        plant(session, seed)
        identities.note(
            session, seed.key, Identity(name="Doe^Jane", patient_id="P1", study_uid="1.2.3", sex="F")
        )
    (document,) = listed(client)
    return str(value(document, "00080018"))


@pytest.fixture
def uid(client: TestClient, store: Store) -> str:
    return item_of(client, store, Seed(name="a", p_value=0.02))


def study(store: Store) -> StudyRow:
    with store.transaction() as session:
        return session.scalars(select(StudyRow)).one()


def actions(store: Store) -> list[str]:
    with store.transaction() as session:
        return list(
            session.scalars(
                select(AuditRow.action).where(AuditRow.action.like("workitem.c%")).order_by(AuditRow.number)
            )
        )


def test_a_work_item_says_whom_it_is_about_and_what_vigil_says(client: TestClient, uid: str) -> None:
    (document,) = client.get(f"{ROOT}/{uid}").json()

    assert value(document, "00741000") == "SCHEDULED"
    assert value(document, "00741200") == "MEDIUM"
    assert value(document, "00100010") == {"Alphabetic": "Doe^Jane"}
    assert value(document, "0020000D") == "1.2.3"
    numbers = [item["0040A30A"]["Value"][0] for item in document["00741210"]["Value"] if "0040A30A" in item]
    texts = [item["0040A160"]["Value"][0] for item in document["00741210"]["Value"] if "0040A160" in item]
    assert numbers == [2.0]
    assert any("not a diagnosis" in text for text in texts)
    assert any(MODEL.sha256 in text for text in texts)
    assert "00081195" not in document


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"is_pending": True}, "More images are arriving"),
        ({"flag": "patient_conflict"}, "do not agree on who the patient is"),
        ({"flag": "content_conflict"}, "twice with different content"),
    ],
)
def test_a_work_item_says_what_its_number_must_not_be_read_without(
    client: TestClient, store: Store, uid: str, values: dict[str, Any], said: str
) -> None:
    assert said not in client.get(f"{ROOT}/{uid}").text
    with store.transaction() as session:
        session.execute(update(StudyRow).values(**values))

    assert said in client.get(f"{ROOT}/{uid}").text


@pytest.mark.parametrize("state", [State.NOT_ASSESSABLE, State.FAILED])
def test_what_was_not_scored_has_no_number_and_never_looks_normal(
    client: TestClient, store: Store, state: State
) -> None:
    uid = item_of(client, store, Seed(name="a", state=state))
    (document,) = client.get(f"{ROOT}/{uid}").json()
    findings = document["00741210"]["Value"]
    assert not [item for item in findings if "0040A30A" in item]
    assert any("does not mean that the study is normal" in str(item) for item in findings)
    with store.transaction() as session:
        screening = replace(workitems.get(session, uid), priority=Priority.SCREENING)
    assert value(document_of(screening, base="", disclaimer=""), "00741200") == "MEDIUM"


def test_a_claim_is_completed_under_its_transaction_and_the_list_says_so(
    client: TestClient, store: Store, uid: str
) -> None:
    assert change(client, uid, CLAIMED).status_code == 200
    assert study(store).assigned_to == "anybody on this machine"
    assert change(client, uid, DONE).status_code == 200
    assert study(store).seen_by == "anybody on this machine"
    (document,) = client.get(f"{ROOT}/{uid}").json()
    (performed,) = document["00741216"]["Value"]
    assert {"00404050", "00404051", "00404019", "00404035"} <= set(performed)
    assert actions(store) == ["workitem.changed", "workitem.changed"]
    again = change(client, uid, DONE)
    assert (again.status_code, "already" in again.headers["warning"]) == (200, True)


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([(CLAIMED, LOCK), (CLAIMED, OTHER)], 409),
        ([(CLAIMED, LOCK), (DONE, OTHER)], 400),
        ([(CLAIMED, LOCK), (DONE, None)], 400),
        ([(DONE, LOCK)], 409),
        ([(GIVEN_UP, LOCK)], 409),
        ([("SCHEDULED", LOCK)], 400),
        ([("DONE", LOCK)], 400),
        ([(CLAIMED, "x")], 400),
        ([(CLAIMED, LOCK), (GIVEN_UP, LOCK), (CLAIMED, LOCK)], 409),
        ([(CLAIMED, LOCK), (DONE, LOCK), (GIVEN_UP, LOCK)], 409),
    ],
)
def test_other_moves_are_refused(
    client: TestClient, uid: str, steps: list[tuple[str, str | None]], status: int
) -> None:
    *before, last = steps
    for state, lock in before:
        assert change(client, uid, state, lock).status_code == 200
    assert change(client, uid, *last).status_code == status


def test_of_two_claimants_at_once_one_wins(client: TestClient, uid: str) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: statuses.append(change(client, uid, CLAIMED, f"2.25.{n}").status_code)
        )
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 409, 409, 409, 409, 409]


def score_again(store: Store) -> None:
    """Let another model's score count."""
    with store.transaction() as session:
        revision = session.scalars(select(RevisionRow)).one()
        before = revision.scores[0]
        session.add(
            ScoreRow(
                revision_id=revision.id,
                model_hash="b2" * 32,
                config_digest=before.config_digest,
                run_at=before.run_at,
                state=State.SCORED,
                p_value=0.001,
                study_score=9.0,
                ended_at=before.ended_at,
            )
        )


def test_who_completes_what_an_older_score_asked_for_has_not_seen_the_new_one(
    client: TestClient, store: Store, uid: str
) -> None:
    change(client, uid, CLAIMED)
    score_again(store)

    assert change(client, uid, DONE).status_code == 200
    assert study(store).seen_at is None


def test_what_an_older_score_asked_for_cannot_be_claimed(client: TestClient, store: Store, uid: str) -> None:
    score_again(store)

    assert change(client, uid, CLAIMED).status_code == 409


def test_a_claim_and_a_search_that_finds_new_work_do_not_wait_for_each_other(
    client: TestClient, store: Store, uid: str
) -> None:
    """A search makes work items, then writes its row; a claim waits for it, holding nothing it needs."""
    statuses: list[int] = []
    claim = threading.Thread(target=lambda: statuses.append(change(client, uid, CLAIMED).status_code))
    with store.transaction() as session:
        plant(session, Seed(name="b"))
    with store.transaction() as searching:
        work.follow(searching)
        claim.start()
        for _ in range(1000):
            if searching.scalar(text("SELECT exists(SELECT FROM pg_locks WHERE NOT granted)")):
                break
            time.sleep(0.01)
        audit.append(searching, "workitem.searched", actor="test", found=2)
    claim.join()

    assert statuses == [200]


def test_a_study_that_is_somebody_elses_on_the_list_cannot_be_claimed(
    client: TestClient, store: Store, uid: str
) -> None:
    with store.transaction() as session:
        marks.assign(session, Seed(name="a").key, "ada", actor="ada", versions=None)
    assert change(client, uid, CLAIMED).status_code == 409


def test_giving_up_lets_the_study_go(client: TestClient, store: Store, uid: str) -> None:
    change(client, uid, CLAIMED)
    assert change(client, uid, GIVEN_UP).status_code == 200
    found = study(store)
    assert (found.assigned_to, found.seen_at) == (None, None)


def test_a_study_seen_on_the_list_leaves_no_work(client: TestClient, store: Store, uid: str) -> None:
    with store.transaction() as session:
        marks.mark_seen(session, Seed(name="a").key, actor="ada")
    assert [value(document, "00741000") for document in listed(client)] == ["CANCELED"]
    assert listed(client, ProcedureStepState="SCHEDULED") == []
    assert change(client, uid, CLAIMED).status_code == 409


def test_work_is_listed_in_order_and_searched(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(
            session,
            Seed(name="usual", p_value=0.9),
            Seed(name="unusual", p_value=0.01),
            Seed(name="failed", state=State.FAILED),
            Seed(name="stat", p_value=0.8),
            Seed(name="pending", state=State.QUEUED),
        )
        for name in ("usual", "unusual", "failed", "stat"):
            identities.note(session, Seed(name=name).key, Identity(name=f"{name}^X", study_uid="1.2"))
        stat = session.scalars(select(StudyRow).where(StudyRow.key == Seed(name="stat").key)).one()
        stat.priority = int(Priority.STAT)
    names = [value(document, "00100010")["Alphabetic"] for document in listed(client)]
    assert names == ["failed^X", "stat^X", "unusual^X", "usual^X"]
    assert len(listed(client, ScheduledProcedureStepPriority="HIGH")) == 1
    assert len(listed(client, PatientName="u*", limit="1")) == 1
    for query in ("Modality=MR", "limit=x", "ScheduledProcedureStepPriority=STAT"):
        assert client.get(f"{ROOT}?{query}").status_code == 400


def test_work_has_the_order_of_the_list(store: Store, settings: Settings) -> None:
    now = datetime.now(UTC)
    uncalibrated = Seed(name="", state=State.NOT_ASSESSABLE, reason="uncalibrated", group_key="{}")
    seeds = (
        Seed(name="stat", p_value=0.8, priority=Priority.STAT),
        Seed(name="urgent", p_value=0.7, priority=Priority.URGENT),
        Seed(name="unusual", p_value=0.01),
        Seed(name="cohort", p_value=0.02, priority=Priority.SCREENING),
        Seed(name="unjudged", state=State.NOT_ASSESSABLE, priority=Priority.SCREENING),
        Seed(name="failed", state=State.FAILED),
        replace(uncalibrated, name="raw", study_score=2.0),
        replace(uncalibrated, name="higher", study_score=8.0),
    )
    late = Seed(name="late", p_value=0.9, received_at=now - timedelta(days=3))
    with store.transaction() as session:
        plant(session, late, *(replace(seed, received_at=now) for seed in seeds))
    day = settings.model_copy(update={"longest_unread_s": 86_400.0})
    app = create_app(store=store, settings=day, model=MODEL)
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    work_of_list = listed(client)
    with store.transaction() as session:
        of_studies = session.execute(select(WorkitemRow.uid, StudyRow.key).join(StudyRow))
        keys = {uid: key for uid, key in of_studies}  # noqa: C416 - rows are not pairs to dict()
    rows = [row["key"] for row in client.get("/api/v1/worklist").json()["rows"]]
    assert [keys[value(document, "00080018")] for document in work_of_list] == rows
    assert rows.index(late.key) < rows.index(Seed(name="urgent").key)
    for priority in ("HIGH", "MEDIUM", "LOW"):  # what could not be judged never says LOW, and is found so
        said = [document for document in work_of_list if value(document, "00741200") == priority]
        assert listed(client, ScheduledProcedureStepPriority=priority) == said != []


def test_progress_is_the_only_thing_to_update(client: TestClient, uid: str) -> None:
    def send(document: dict[str, Any], lock: str = LOCK) -> int:
        return client.post(f"{ROOT}/{uid}?transaction-uid={lock}", json=[document]).status_code

    progress = {
        "00741002": {
            "vr": "SQ",
            "Value": [{"00741004": {"vr": "DS", "Value": [40]}, "00741006": {"vr": "ST", "Value": ["half"]}}],
        }
    }
    assert send(progress) == 409
    change(client, uid, CLAIMED)
    assert send(progress) == 200
    assert send(progress, OTHER) == 400
    assert send({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "X"}]}}) == 400
    assert send({"00741002": {"vr": "SQ", "Value": [{"00741004": {"vr": "DS", "Value": ["NaN"]}}]}}) == 400
    (document,) = client.get(f"{ROOT}/{uid}").json()
    assert value(document, "00741002")["00741004"]["Value"] == [40]


def test_a_cancel_request_asks_who_has_claimed(client: TestClient, uid: str) -> None:
    change(client, uid, CLAIMED)
    reason = [{"00741238": {"vr": "LT", "Value": ["read elsewhere"]}}]
    assert client.post(f"{ROOT}/{uid}/cancelrequest", json=reason).status_code == 202
    assert value(client.get(f"{ROOT}/{uid}").json()[0], "00741000") == CLAIMED
    change(client, uid, GIVEN_UP)
    assert client.post(f"{ROOT}/{uid}/cancelrequest").status_code == 409
    assert client.get(f"{ROOT}/2.25.9").status_code == 404


def test_a_cancel_request_ends_what_nobody_has_claimed(client: TestClient, uid: str) -> None:
    assert client.post(f"{ROOT}/{uid}/cancelrequest").status_code == 202
    assert value(client.get(f"{ROOT}/{uid}").json()[0], "00741000") == GIVEN_UP


@pytest.mark.parametrize(
    "sent", ["[]", "[1]", "{}", '{"00741000": 3}', '{"00741000": {"Value": [{}]}}', "[[]]"]
)
def test_bodies_that_are_no_data_set_are_problems(client: TestClient, uid: str, sent: str) -> None:
    headers = {"Content-Type": "application/dicom+json"}
    for method, place in (("PUT", "/state"), ("POST", "")):
        answer = client.request(method, f"{ROOT}/{uid}{place}", content=sent, headers=headers)
        assert answer.status_code in {400, 422}, answer.text


def test_a_subscriber_is_told_over_its_channel(client: TestClient, store: Store, uid: str) -> None:
    made = client.post(f"{ALL}/WATCHER")
    assert (made.status_code, made.headers["content-location"]) == (
        201,
        "ws://127.0.0.1:8080/dicom-web/subscribers/WATCHER",
    )
    assert client.post(f"{ROOT}/1.2.840.10008.5.1.4.34.5.1/subscribers/WATCHER").status_code == 403
    with client.websocket_connect("ws://127.0.0.1:8080/dicom-web/subscribers/WATCHER") as channel:
        change(client, uid, CLAIMED)
        told = [channel.receive_json() for _ in range(2)]
        with store.transaction() as session:
            plant(session, Seed(name="b", p_value=0.5))
        new = channel.receive_json()
    assert [value(event, "00001002") for event in told] == [5, 1]
    assert value(told[1], "00741000") == CLAIMED
    assert {value(event, "00001000") for event in told} == {uid}
    assert (value(new, "00741000"), value(new, "00001000") != uid) == ("SCHEDULED", True)
    assert client.post(f"{ALL}/WATCHER/suspend").status_code == 200
    assert client.delete(f"{ROOT}/{uid}/subscribers/WATCHER").status_code == 200

import threading
from datetime import date

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from service.access import Identity, Role
from service.api.callers import ANYBODY
from service.store import Store, answers, audit, feedback, identities, people
from service.store.tables import AnswerRow, AuditRow, FeedbackRow, StudyRow
from service.study import State, Verdict
from tests.seeds import CALIBRATION_SHA256, MODEL_SHA256, REGIONS, Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

KEY = study_key("a")
STUDY = f"/api/v1/studies/{KEY}"


@pytest.fixture
def reader(client: TestClient, store: Store) -> TestClient:
    """Client on a list of one scored study."""
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.25, regions=REGIONS, pictures=3))
    return client


def actions(store: Store) -> list[str]:
    """What was done to the study since it was scored, on an intact trail; looking changes nothing."""
    with store.transaction() as session:
        audit.verify(session)
        query = select(AuditRow.action).where(AuditRow.study_key == KEY).order_by(AuditRow.number)
        return [action for action in list(session.scalars(query))[3:] if action != "study.viewed"]


def kind(answer: object) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]  # type: ignore[attr-defined]


def test_the_first_who_looked_is_kept_and_it_can_be_taken_back(reader: TestClient, store: Store) -> None:
    first = reader.post(f"{STUDY}/seen").json()
    assert first["seen_by"] == ANYBODY.name
    assert reader.post(f"{STUDY}/seen").json() == first
    assert reader.delete(f"{STUDY}/seen").json() == {"seen_at": None, "seen_by": None}
    assert reader.delete(f"{STUDY}/seen").status_code == 200
    assert actions(store) == ["study.seen", "study.unseen"]


def test_what_was_seen_is_the_revision_on_the_screen(reader: TestClient, store: Store) -> None:
    shown = reader.get(STUDY).json()["row"]["revision"]
    late = reader.post(f"{STUDY}/seen", json={"revision": shown + 1})
    assert (late.status_code, kind(late)) == (409, "revision-changed")
    assert actions(store) == []
    assert reader.post(f"{STUDY}/seen", json={"revision": shown}).status_code == 200


def test_an_assignment_names_the_version_it_changes(reader: TestClient, store: Store) -> None:
    address = f"{STUDY}/assignment"
    seen = reader.get(address).headers["etag"]
    mine = {"assigned_to": ANYBODY.name}

    taken = reader.put(address, json=mine, headers={"If-Match": seen})
    assert (taken.status_code, taken.json()["assigned_to"]) == (200, ANYBODY.name)
    assert taken.headers["etag"] == reader.get(address).headers["etag"] != seen

    late = reader.put(address, json={"assigned_to": None}, headers={"If-Match": seen})
    assert (late.status_code, kind(late)) == (412, "changed-since")
    blind = reader.put(address, json={"assigned_to": None})
    assert (blind.status_code, kind(blind)) == (428, "no-version")
    weak = reader.put(address, json={"assigned_to": None}, headers={"If-Match": f"W/{taken.headers['etag']}"})
    assert weak.status_code == 412
    either = f'"77", {taken.headers["etag"]}'
    freed = reader.put(address, json={"assigned_to": None}, headers={"If-Match": either})
    assert freed.json()["assigned_to"] is None
    again = reader.put(address, json={"assigned_to": None}, headers={"If-Match": "*"})
    assert again.json() == freed.json()
    assert actions(store) == ["study.assigned", "study.assigned"]


@pytest.mark.parametrize(("role", "status"), [(Role.READER, 200), (Role.VIEWER, 422)])
def test_a_study_is_given_only_to_who_may_read_it(
    reader: TestClient, store: Store, role: Role, status: int
) -> None:
    with store.transaction() as session:
        secret = people.invite(session, role, actor="test")
        people.accept(session, secret, name="ada", password="correct horse battery")  # noqa: S106 - of nobody
    answer = reader.put(f"{STUDY}/assignment", json={"assigned_to": "ada"}, headers={"If-Match": "*"})
    assert answer.status_code == status
    assert "ada" not in answer.text or status == 200


def test_feedback_keeps_the_numbers_it_judged(reader: TestClient, store: Store) -> None:
    said = {"verdict": "false_alarm", "note": "old infarct", "region": 1, "slice_index": 2, "revision": 1}
    given = reader.post(f"{STUDY}/feedback", json=said)
    body = given.json()
    assert (given.status_code, given.headers["location"]) == (201, f"{STUDY}/feedback/1")
    assert {name: body[name] for name in said} == said
    assert (body["percentile"], body["study_score"], body["model_hash"]) == (25.0, 1.0, MODEL_SHA256)
    assert (body["calibration_hash"], body["by"], body["state"]) == (
        CALIBRATION_SHA256,
        ANYBODY.name,
        "scored",
    )
    assert reader.get(given.headers["location"]).json() == body
    with store.transaction() as session:
        event = session.scalars(select(AuditRow).where(AuditRow.action == "feedback.given")).one()
    assert "infarct" not in str(event.detail)
    assert reader.get(STUDY).json()["row"]["feedback"] == "false_alarm"


@pytest.mark.parametrize("grade", [1, 2, 3])
def test_a_finding_may_say_how_easily_it_is_seen(reader: TestClient, store: Store, grade: int) -> None:
    said = {"verdict": "confirmed_finding", "conspicuity": grade}
    given = reader.post(f"{STUDY}/feedback", json=said)
    assert (given.status_code, given.json()["conspicuity"]) == (201, grade)
    plain = reader.put(
        given.headers["location"], json={"verdict": "other_condition"}, headers={"If-Match": "*"}
    )
    assert (plain.json()["verdict"], plain.json()["conspicuity"]) == ("other_condition", None)
    with store.transaction() as session:
        event = session.scalars(select(AuditRow).where(AuditRow.action == "feedback.given")).one()
    assert (event.detail["verdict"], event.detail["conspicuity"]) == ("confirmed_finding", grade)


def test_a_correction_is_another_version_of_the_same(reader: TestClient, store: Store) -> None:
    given = reader.post(f"{STUDY}/feedback", json={"verdict": "false_alarm"})
    address, seen = given.headers["location"], given.headers["etag"]
    right = {"verdict": "confirmed_finding", "note": "after all"}

    corrected = reader.put(address, json=right, headers={"If-Match": seen})
    assert corrected.json() == {**given.json(), **right, "version": 2, "at": corrected.json()["at"]}
    assert reader.get(address).json() == corrected.json()
    assert reader.get(f"{STUDY}/feedback").json() == [corrected.json()]
    assert reader.put(address, json=right, headers={"If-Match": seen}).status_code == 412
    assert reader.put(address, json=right).status_code == 428
    with store.transaction() as session:
        kept = session.scalars(select(FeedbackRow.verdict).order_by(FeedbackRow.version)).all()
    assert [verdict.value for verdict in kept] == ["false_alarm", "confirmed_finding"]
    assert actions(store) == ["feedback.given", "feedback.corrected"]
    with store.transaction() as session:
        plant(session, Seed(name="b"))
        ids = session.scalars(select(StudyRow.id).order_by(StudyRow.id)).all()
        assert feedback.newest_verdicts(session, ids) == {ids[0]: Verdict.CONFIRMED_FINDING}


def test_feedback_of_another_is_left_to_them(reader: TestClient, store: Store) -> None:
    address = reader.post(f"{STUDY}/feedback", json={"verdict": "artefact"}).headers["location"]
    with store.transaction() as session:
        session.execute(text("ALTER TABLE vigil.feedback DISABLE TRIGGER feedback_append_only"))
        session.execute(text("UPDATE vigil.feedback SET by = 'grace'"))
        session.execute(text("ALTER TABLE vigil.feedback ENABLE TRIGGER feedback_append_only"))
    answer = reader.put(address, json={"verdict": "artefact"}, headers={"If-Match": "*"})
    assert (answer.status_code, kind(answer)) == (403, "foreign-feedback")


@pytest.mark.parametrize(
    "statement", ["UPDATE vigil.feedback SET verdict = 'artefact'", "DELETE FROM feedback"]
)
def test_the_database_keeps_what_was_said(reader: TestClient, store: Store, statement: str) -> None:
    reader.post(f"{STUDY}/feedback", json={"verdict": "false_alarm"})
    with pytest.raises(IntegrityError, match="append-only"), store.transaction() as session:
        session.execute(text(statement))


def test_a_study_without_a_score_is_judged_without_numbers(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.NOT_ASSESSABLE))
    body = client.post(f"{STUDY}/feedback", json={"verdict": "wrong_study"}).json()
    assert (body["state"], body["percentile"], body["study_score"]) == ("not_assessable", None, None)
    assert body["model_hash"] == MODEL_SHA256


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"verdict": "false_alarm", "region": len(REGIONS)}, 422, "no-such-place"),
        ({"verdict": "false_alarm", "slice_index": 3}, 422, "no-such-place"),
        ({"verdict": "false_alarm", "revision": 2}, 409, "revision-changed"),
        ({"verdict": "extraction_failure", "conspicuity": 1}, 422, "invalid-request"),
        ({"verdict": "confirmed_finding", "conspicuity": 4}, 422, "invalid-request"),
        ({"verdict": "maybe"}, 422, "invalid-request"),
        ({"verdict": "false_alarm", "note": "x" * 1001}, 422, "invalid-request"),
        ({"verdict": "false_alarm", "note": "\x00"}, 422, "invalid-request"),
        ({"verdict": "false_alarm", "opinion": "mine"}, 422, "invalid-request"),
        ({}, 422, "invalid-request"),
    ],
)
def test_feedback_that_cannot_be_is_refused_and_changes_nothing(
    reader: TestClient, store: Store, said: dict[str, object], status: int, code: str
) -> None:
    answer = reader.post(f"{STUDY}/feedback", json=said)
    assert (answer.status_code, kind(answer)) == (status, code)
    assert actions(store) == []
    assert reader.get(f"{STUDY}/feedback").json() == []


@pytest.mark.parametrize("verb", ["seen", "feedback", "reveal"])
def test_what_nobody_knows_cannot_be_acted_on(client: TestClient, verb: str) -> None:
    body = {"json": {"verdict": "artefact"}} if verb == "feedback" else {}
    answer = client.post(f"/api/v1/studies/{study_key('nobody')}/{verb}", **body)  # type: ignore[arg-type]
    assert (answer.status_code, kind(answer)) == (404, "unknown-study")
    assert client.get(f"{STUDY}/feedback/1").status_code == 404


def test_revealing_is_on_record_without_what_was_revealed(reader: TestClient, store: Store) -> None:
    identity = Identity(name="Doe^Jane", patient_id="P-77", birth_date=date(1980, 2, 3), sex="F")
    with store.transaction() as session:
        identities.note(session, KEY, identity)
    shown = reader.post(f"{STUDY}/reveal").json()
    assert (shown["label"], shown["patient_id"], shown["birth_date"]) == ("Doe, Jane", "P-77", "1980-02-03")
    assert actions(store) == ["identity.revealed"]
    with store.transaction() as session:
        assert "Doe" not in str([row.detail for row in session.scalars(select(AuditRow))])


def test_an_identity_is_not_kept_to_be_told_again(reader: TestClient, store: Store) -> None:
    answer = reader.post(f"{STUDY}/reveal", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, kind(answer)) == (400, "idempotency-key-not-taken")
    assert actions(store) == []


def test_what_is_sent_twice_is_done_once(reader: TestClient, store: Store) -> None:
    headers = {"Idempotency-Key": "5f1b"}
    said = {"verdict": "artefact"}
    first = reader.post(f"{STUDY}/feedback", json=said, headers=headers)
    second = reader.post(f"{STUDY}/feedback", json=said, headers=headers)
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert (second.headers["etag"], second.headers["location"]) == (
        first.headers["etag"],
        first.headers["location"],
    )
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert actions(store) == ["feedback.given"]


@pytest.mark.parametrize("key", ["", "a b", "\x7f", "x" * 129])
def test_a_key_that_is_none_is_refused(reader: TestClient, key: str) -> None:
    assert reader.post(f"{STUDY}/seen", headers={"Idempotency-Key": key}).status_code == 422


def test_a_key_belongs_to_one_request(reader: TestClient, store: Store) -> None:
    headers = {"Idempotency-Key": "5f1b"}
    reader.post(f"{STUDY}/feedback", json={"verdict": "artefact"}, headers=headers)
    other = reader.post(f"{STUDY}/feedback", json={"verdict": "false_alarm"}, headers=headers)
    assert (other.status_code, kind(other)) == (422, "idempotency-key-reused")
    elsewhere = reader.post(f"{STUDY}/seen", headers=headers)
    assert elsewhere.status_code == 422
    assert actions(store) == ["feedback.given"]


def test_what_was_refused_may_be_asked_again_under_the_same_key(reader: TestClient, store: Store) -> None:
    headers = {"Idempotency-Key": "5f1b"}
    said = {"verdict": "artefact", "revision": 2}
    assert reader.post(f"{STUDY}/feedback", json=said, headers=headers).status_code == 409
    with store.transaction() as session:
        session.execute(text("UPDATE vigil.revision SET number = 2"))
    assert reader.post(f"{STUDY}/feedback", json=said, headers=headers).status_code == 201


def test_two_at_the_same_time_do_it_once(reader: TestClient, store: Store) -> None:
    bodies: list[object] = []

    def send() -> None:
        answer = reader.post(
            f"{STUDY}/feedback", json={"verdict": "artefact"}, headers={"Idempotency-Key": "5f1b"}
        )
        bodies.append(answer.json())

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bodies) == 4
    assert all(body == bodies[0] for body in bodies)
    assert actions(store) == ["feedback.given"]


def test_a_key_ends_after_a_day_and_goes(reader: TestClient, store: Store) -> None:
    headers = {"Idempotency-Key": "5f1b"}
    reader.post(f"{STUDY}/feedback", json={"verdict": "artefact"}, headers=headers)
    with store.transaction() as session:
        session.execute(text("UPDATE vigil.answer SET at = at - :life"), {"life": answers.LIFE})
    again = reader.post(f"{STUDY}/feedback", json={"verdict": "artefact"}, headers=headers)
    assert again.json()["number"] == 2
    reader.post(f"{STUDY}/seen", headers={"Idempotency-Key": "other"})
    with store.transaction() as session:
        assert len(session.scalars(select(AnswerRow)).all()) == 2


def test_a_caller_holds_no_more_keys_than_the_bound(
    reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_OF_A_CALLER", 2)
    kept = [reader.post(f"{STUDY}/seen", headers={"Idempotency-Key": str(n)}) for n in range(3)]
    assert [answer.status_code for answer in kept] == [200, 200, 429]
    assert reader.post(f"{STUDY}/seen", headers={"Idempotency-Key": "0"}).status_code == 200

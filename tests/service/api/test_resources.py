from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.artefact import CARD, MANIFEST, identity_sha256, read_manifest
from models.catalogue import list_artefacts
from service import engine
from service.access import Role
from service.api import create_app
from service.engine import Pool
from service.settings import Settings
from service.store import Store, audit, feedback, orders, people
from service.store.tables import AuditRow
from service.study import DeliveryStatus, State, Verdict
from tests.seeds import GROUP, MODEL, MODEL_SHA256, MORNING, Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

LISTINGS = ("scores", "jobs", "dead-letters", "deliveries", "feedback")
KEY = study_key("a")


@pytest.fixture
def admin(store: Store, tmp_path: Path) -> Iterator[TestClient]:
    """Client of an administrator, on empty tables but for the token."""
    app = create_app(
        store=store,
        settings=Settings(data=tmp_path),
        model=MODEL,
        destinations=lambda: ["pacs", "new"],
    )
    with TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {token(store, Role.ADMIN)}"
        yield client


def token(store: Store, role: Role) -> str:
    with store.transaction() as session:
        return people.make_token(session, f"test {role}", role, actor="test")[1]


def items(client: TestClient, url: str) -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/{url}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def keys(client: TestClient, url: str) -> list[str]:
    return [item["key"] for item in items(client, url)]


def turned(client: TestClient, url: str, way: str, start: str | None = None) -> list[list[Any]]:
    """Items of every page on a way, and the cursors of the page it ended on."""
    pages: list[list[Any]] = []
    cursor = start
    while True:
        body = client.get(
            f"/api/v1/{url}", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        pages.append(body["items"])
        cursor = body[way]
        if cursor is None:
            return pages


def test_pages_hold_every_row_once_forth_and_back(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        for number in range(5):
            audit.append(session, "test.numbered", actor="test", number=number)
    items(admin, "audit")  # the first look is a row itself
    whole = items(admin, "audit")
    forth = turned(admin, "audit", "next")
    assert [len(page) for page in forth] == [2] * (len(whole) // 2) + [1] * (len(whole) % 2)
    assert [event for page in forth for event in page] == whole
    assert [event["number"] for event in whole] == sorted((e["number"] for e in whole), reverse=True)

    second = admin.get("/api/v1/audit", params={"limit": 2}).json()["next"]
    third = admin.get("/api/v1/audit", params={"limit": 2, "cursor": second}).json()
    back = turned(admin, "audit", "previous", third["previous"])
    assert [event for page in back for event in page] == forth[0]


def test_a_row_that_comes_meanwhile_moves_no_page(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        for number in range(4):
            audit.append(session, "test.numbered", actor="test", number=number)
    first = admin.get("/api/v1/audit", params={"limit": 2}).json()
    with store.transaction() as session:
        audit.append(session, "test.numbered", actor="test", number=4)
    second = admin.get("/api/v1/audit", params={"limit": 2, "cursor": first["next"]}).json()
    numbers = [event["number"] for page in (first, second) for event in page["items"]]
    assert numbers == list(range(numbers[0], numbers[0] - 4, -1))


def test_a_forged_cursor_is_refused(admin: TestClient) -> None:
    for listing in (*LISTINGS, "audit"):
        for cursor in ("x", "AAAA", "é", "A" * 300, "=", "-_-_"):
            answer = admin.get(f"/api/v1/{listing}", params={"cursor": cursor})
            assert (answer.status_code, answer.json()["type"]) == (400, "urn:vigil:problem:forged-cursor")


def test_a_cursor_belongs_to_its_listing_and_filters(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        for name in "abc":
            plant(session, Seed(name=name))
    cursor = admin.get("/api/v1/scores", params={"limit": 1}).json()["next"]
    assert len(items(admin, f"scores?cursor={cursor}&limit=1000")) == 2
    for url in (f"scores?state=scored&cursor={cursor}", f"deliveries?cursor={cursor}"):
        answer = admin.get(f"/api/v1/{url}")
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:vigil:problem:stale-cursor")


def test_a_cursor_of_a_listing_does_not_open_the_worklist_nor_the_other_way(
    admin: TestClient, store: Store
) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b"))
    for one, other in (("scores", "worklist"), ("worklist", "scores")):
        cursor = admin.get(f"/api/v1/{one}", params={"limit": 1}).json()["next"]
        answer = admin.get(f"/api/v1/{other}", params={"limit": 1, "cursor": cursor})
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:vigil:problem:forged-cursor")


def test_a_parameter_that_is_none_is_refused(admin: TestClient) -> None:
    for listing in (*LISTINGS, "audit"):
        for query in ("colour=red", "limit=0", "limit=1001", "limit=x", "offset=1", "study=1.2.840"):
            answer = admin.get(f"/api/v1/{listing}?{query}")
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:vigil:problem:invalid-request")
            assert "1.2.840" not in answer.text


def test_scores_tell_which_counts_and_what_it_means(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(
            session,
            Seed(name="a", p_value=0.25, revisions=2),
            Seed(name="n", state=State.NOT_ASSESSABLE),
        )
    declined, newer, older = items(admin, "scores")
    assert (declined["state"], declined["reason"], declined["assessment"]) == (
        "not_assessable",
        "localiser",
        None,
    )
    assert [(score["revision"], score["is_current"]) for score in (newer, older)] == [(2, True), (1, False)]
    assert (newer["assessment"]["percentile"], newer["assessment"]["reference_group"]) == (25.0, GROUP)
    assert keys(admin, f"scores?study={KEY}") == [KEY, KEY]
    assert keys(admin, "scores?state=not_assessable") == [study_key("n")]
    assert keys(admin, f"scores?model={'0' * 64}") == []


def test_jobs_tell_what_waits_and_for_whom(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.QUEUED))
        plant(session, Seed(name="b", results={"sr": {"pacs": DeliveryStatus.WAITING}}))
        later = MORNING + timedelta(days=900)
        engine.enqueue(session, Pool.INFER, 1, priority=20)
        engine.enqueue(session, Pool.DELIVER, 1, priority=10, not_before=later)
        engine.enqueue(session, Pool.INFER, 999, priority=10)  # of a row that is gone
    delivery, score = items(admin, "jobs")
    assert (score["pool"], score["key"], score["priority"], score["due_at"]) == ("infer", KEY, 20, None)
    assert (delivery["key"], delivery["kind"], delivery["destination"]) == (study_key("b"), "sr", "pacs")
    assert delivery["due_at"].startswith(str(later.date()))
    assert keys(admin, "jobs?pool=deliver&status=waiting") == [study_key("b")]
    assert keys(admin, "jobs?status=running") == []


def test_what_was_given_up_is_paged_with_its_reason(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, *(Seed(name=name, state=State.FAILED) for name in "abc"))  # all ended at once
        plant(session, Seed(name="d", results={"sr": {"pacs": DeliveryStatus.UNDELIVERED}}))
    pages = turned(admin, "dead-letters", "next")
    assert [letter["key"] for page in pages for letter in page] == [study_key(name) for name in "dcba"]
    assert (pages[0][0]["what"], pages[0][0]["reason"]) == ("sr to pacs", "The destination does not answer.")


def test_deliveries_are_found_by_study_destination_and_status(admin: TestClient, store: Store) -> None:
    both = {"pacs": DeliveryStatus.STORED, "archive": DeliveryStatus.UNDELIVERED}
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": both}), Seed(name="b", results={"seg": both}))
    assert len(items(admin, "deliveries")) == 4
    assert keys(admin, f"deliveries?study={KEY}") == [KEY, KEY]
    (one,) = items(admin, f"deliveries?study={KEY}&destination=archive&status=undelivered")
    assert (one["kind"], one["status"], one["error"]) == (
        "sr",
        "undelivered",
        "The destination does not answer.",
    )


def test_destinations_are_those_of_the_peers_file_and_those_of_before(
    admin: TestClient, store: Store
) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": {"pacs": DeliveryStatus.WAITING}}))
        plant(session, Seed(name="b", results={"sr": {"gone": DeliveryStatus.UNDELIVERED}}))
        orders.park_destination(session, "pacs")
    found = {one["name"]: one for one in admin.get("/api/v1/destinations").json()}
    assert {name: one["is_configured"] for name, one in found.items()} == {
        "gone": False,
        "new": True,
        "pacs": True,
    }
    assert (found["pacs"]["deliveries"]["waiting"], found["gone"]["deliveries"]["undelivered"]) == (1, 1)
    assert found["pacs"]["parked_at"] is not None
    assert found["gone"]["parked_at"] is None
    assert sum(found["new"]["deliveries"].values()) == 0


def test_the_model_in_service_stands_first(admin: TestClient, store: Store) -> None:
    (unused,) = admin.get("/api/v1/models").json()
    assert (unused["is_in_service"], unused["first_at"], unused["reference_n"]) == (True, None, MODEL.n)
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b", state=State.NOT_ASSESSABLE))
    (used,) = admin.get("/api/v1/models").json()
    assert (used["sha256"], used["scores"]["scored"], used["scores"]["not_assessable"]) == (
        MODEL_SHA256,
        1,
        1,
    )
    one = admin.get(f"/api/v1/models/{MODEL_SHA256}").json()
    assert (one["model"], one["card"]) == (used, None)  # nobody has the model of the tests
    assert admin.get(f"/api/v1/models/{'0' * 64}").json()["type"] == "urn:vigil:problem:unknown-model"


def test_a_model_that_is_here_brings_its_card(store: Store, settings: Settings) -> None:
    (shipped,) = list_artefacts()
    sha256 = identity_sha256(read_manifest(shipped / MANIFEST))
    app = create_app(store=store, settings=settings, model=replace(MODEL, sha256=sha256))
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    card = client.get(f"/api/v1/models/{sha256}").json()["card"]
    assert card == (shipped / CARD).read_text(encoding="utf-8")


def test_feedback_is_found_and_its_notes_are_for_readers(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b"))
        said = feedback.Opinion(verdict=Verdict.ARTEFACT, note="Jane moved")
        feedback.give(session, KEY, said, actor="ada")
        feedback.correct(session, KEY, 1, said, actor="ada", versions=None)
        feedback.give(session, study_key("b"), feedback.Opinion(verdict=Verdict.FALSE_ALARM), actor="grace")
    assert keys(admin, "feedback") == [study_key("b"), KEY]
    (one,) = items(admin, f"feedback?by=ada&verdict=artefact&model={MODEL_SHA256}")
    assert (one["version"], one["note"]) == (2, "Jane moved")

    admin.headers["Authorization"] = f"Bearer {token(store, Role.VIEWER)}"
    for url in (f"feedback?study={KEY}", f"studies/{KEY}/feedback", f"studies/{KEY}/feedback/1"):
        answer = admin.get(f"/api/v1/{url}")
        assert answer.status_code == 200
        assert "Jane" not in answer.text


def test_the_audit_trail_is_searched_and_is_for_administrators(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b"))
        audit.append(session, "person.added", actor="ada")
    actions = [event["action"] for event in items(admin, f"audit?study={KEY}")]
    assert actions == ["study.scored", "study.queued", "study.received"]
    assert [event["study_key"] for event in items(admin, "audit?action=study.scored")] == [
        study_key("b"),
        KEY,
    ]
    assert len(items(admin, "audit?action=study")) == 6
    assert [event["action"] for event in items(admin, "audit?actor=ada")] == ["person.added"]
    newest = items(admin, "audit?action=study&limit=1")[0]["at"]
    since = admin.get("/api/v1/audit", params={"since": newest, "action": "study"})
    assert len(since.json()["items"]) == 1
    assert newest not in str(admin.get("/api/v1/audit", params={"until": newest}).json())
    admin.headers["Authorization"] = f"Bearer {token(store, Role.OPERATOR)}"
    assert admin.get("/api/v1/audit").status_code == 403


@pytest.mark.parametrize("what", ["scores", "jobs", "dead-letters", "deliveries", "feedback", "audit"])
def test_who_asked_for_a_list_is_in_the_trail_once(admin: TestClient, store: Store, what: str) -> None:
    for _ in range(2):
        assert admin.get(f"/api/v1/{what}", params={"limit": 5}).status_code == 200
    with store.transaction() as session:
        rows = session.scalars(select(AuditRow.detail).where(AuditRow.action == "list.queried")).all()
    assert [row["what"] for row in rows] == [what]

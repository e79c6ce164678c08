"""What a reader says is about the score that was on the screen, also where the revision stays the same."""

import re
from typing import Any

import pytest

from service.store import Store
from tests.seeds import Seed, plant, plant_drift
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

SEED = Seed(name="a", p_value=0.85, study_score=0.2)
STUDY = f"/api/v1/studies/{SEED.key}"
ACTS: list[tuple[str, dict[str, Any]]] = [("seen", {}), ("feedback", {"verdict": "false_alarm"})]


@pytest.fixture
def reader(client: TestClient, store: Store) -> TestClient:
    """Client on a list of one scored study."""
    with store.transaction() as session:
        plant(session, SEED)
    return client


def shown(reader: TestClient) -> dict[str, Any]:
    """Row of the study, as its own answer tells it."""
    row: dict[str, Any] = reader.get(STUDY).json()["row"]
    return row


def score_again(store: Store) -> None:
    with store.transaction() as session:
        plant_drift(session, SEED)


@pytest.mark.parametrize(("act", "said"), ACTS)
def test_what_was_said_of_a_score_that_was_replaced_is_refused(
    reader: TestClient, store: Store, act: str, said: dict[str, Any]
) -> None:
    before = shown(reader)
    score_again(store)
    after = shown(reader)
    assert (before["revision"], after["revision"]) == (1, 1)
    assert before["score"] != after["score"]
    body = said | {"revision": 1, "score": before["score"]}
    refused = reader.post(f"{STUDY}/{act}", json=body)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vigil:problem:score-changed")
    assert refused.json()["remedy"]
    row = shown(reader)
    assert (row["seen_at"], row["feedback"], row["state"]) == (None, None, "not_assessable")
    assert reader.post(f"{STUDY}/{act}", json=body | {"score": after["score"]}).is_success


def test_the_list_tells_the_score_that_the_study_tells(reader: TestClient) -> None:
    (row,) = reader.get("/api/v1/worklist").json()["rows"]
    assert row["score"] == shown(reader)["score"]


def test_what_was_no_such_score_is_refused_before_anything_is_asked(reader: TestClient) -> None:
    assert reader.post(f"{STUDY}/seen", json={"score": "A forged one"}).status_code == 422


def test_feedback_says_whether_the_score_it_judged_still_counts(reader: TestClient, store: Store) -> None:
    given = reader.post(f"{STUDY}/feedback", json={"verdict": "false_alarm"})
    assert given.json()["is_current"]
    score_again(store)
    (said,) = reader.get(f"{STUDY}/feedback").json()
    assert not said["is_current"]


def test_the_form_of_a_row_names_the_score_it_shows(reader: TestClient, store: Store) -> None:
    pages = {"Accept": "text/html"}
    page = reader.get("/", headers=pages).text
    (told,) = re.findall(r'name="score" value="([0-9a-f]+)"', page)
    assert told == shown(reader)["score"]
    score_again(store)
    address, sent = f"/studies/{SEED.key}/seen", {"revision": "1", "score": told}
    late = reader.post(address, data=sent, headers=pages)
    assert late.status_code == 409
    assert "scored again" in late.text
    row = reader.post(address, data=sent, headers=pages | {"HX-Request": "true"})
    assert row.status_code == 409
    assert f'id="row-{SEED.key}" data-key="{SEED.key}" data-state="not_assessable"' in row.text
    assert shown(reader)["seen_at"] is None

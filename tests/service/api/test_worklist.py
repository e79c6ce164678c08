from datetime import UTC, datetime, timedelta

import pytest

from service.access import Identity, Masking
from service.api import create_app
from service.settings import Settings
from service.store import Store, identities
from service.study import DISCLAIMER, DeliveryStatus, Priority, State
from tests.seeds import CALIBRATION_SHA256, GROUP, MODEL, MODEL_SHA256, MORNING, Seed, plant
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

URL = "/api/v1/worklist"


def test_the_list_comes_in_order_with_its_disclaimer(client: TestClient, store: Store) -> None:
    seeds = (
        Seed(name="usual", p_value=0.8),
        Seed(name="unusual", p_value=0.2),
        Seed(name="f", state=State.FAILED),
    )
    with store.transaction() as session:
        plant(session, *seeds)
    body = client.get(URL).json()
    assert [row["key"] for row in body["rows"]] == [seeds[2].key, seeds[1].key, seeds[0].key]
    assert [row["rank"] for row in body["rows"]] == [None, 1, 2]
    assert [row["band"] for row in body["rows"]] == ["unjudged", "ranked", "ranked"]
    assert body["disclaimer"] == f"{MODEL.disclaimer} {DISCLAIMER}"
    assert body["counts"] == {
        "received": 0,
        "complete": 0,
        "queued": 0,
        "scored": 2,
        "not_assessable": 0,
        "failed": 1,
    }


def test_every_number_stands_beside_what_it_means(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.25, results={"sr": {"archive": DeliveryStatus.STORED}}))
    row = client.get(URL).json()["rows"][0]
    assert row["assessment"]["percentile"] == 25.0
    assert row["assessment"]["model"] == {
        "name": MODEL.name,
        "version": MODEL.version,
        "sha256": MODEL_SHA256,
    }
    assert row["assessment"]["calibration_sha256"] == CALIBRATION_SHA256
    assert (row["assessment"]["reference_group"], row["assessment"]["reference_n"]) == (GROUP, MODEL.n)
    assert row["assessment"]["run_at"] == "2026-03-02T08:01:00Z"
    assert row["results"] == [{"kind": "sr", "destination": "archive", "status": "stored"}]


@pytest.mark.parametrize("state", sorted(set(State) - {State.SCORED}))
def test_nothing_unscored_carries_a_number(client: TestClient, store: Store, state: State) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state, revisions=2))
    row = client.get(URL).json()["rows"][0]
    assert (row["rank"], row["assessment"]) == (None, None)


def test_pages_are_cut_from_one_list(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, *(Seed(name=str(index), p_value=(index + 1) / 10) for index in range(4)))
    first = client.get(URL, params={"limit": 1}).json()
    body = client.get(URL, params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["rank"] for row in body["rows"]] == [2, 3]
    assert (body["total"], body["limit"]) == (4, 2)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=many",
        "offset=1",
        "state=usual",
        "band=1",
        "priority=10",
        "percentile_below=0",
        "received_from=2026-01-01",
        "seen=maybe",
        "sort=p",
        "text=%00",
        "colour=red",
    ],
)
def test_a_wrong_or_unknown_parameter_is_refused_without_repeating_it(client: TestClient, query: str) -> None:
    answer = client.get(f"{URL}?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "many" not in answer.text


def test_filters_and_sort_stand_in_the_query_string(client: TestClient, store: Store) -> None:
    seeds = [
        Seed(name="late", p_value=0.2, received_at=MORNING + timedelta(hours=1), priority=Priority.STAT),
        Seed(name="early", p_value=0.1, priority=Priority.STAT),
        Seed(name="other", p_value=0.05),
    ]
    with store.transaction() as session:
        plant(session, *seeds)
    asked = {
        "priority": "stat", "band": "ranked", "state": "scored", "received_from": "2026-03-02T08:00:00Z",
        "percentile_below": "50", "seen": "false", "assigned_to": "", "text": "brain", "sort": "-received",
    }  # fmt: skip
    body = client.get(URL, params=asked).json()
    assert [row["key"] for row in body["rows"]] == [seeds[0].key, seeds[1].key]
    assert (body["total"], body["counts"]["scored"]) == (2, 3)
    assert {row["priority"] for row in body["rows"]} == {"stat"}


def test_a_cursor_leads_on_and_back(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, *(Seed(name=str(index), p_value=(index + 1) / 10) for index in range(4)))
    first = client.get(URL, params={"limit": 3}).json()
    second = client.get(URL, params={"limit": 3, "cursor": first["next"]}).json()
    back = client.get(URL, params={"limit": 3, "cursor": second["previous"]}).json()
    assert [first["previous"], second["next"]] == [None, None]
    assert back["rows"] == first["rows"]


def test_a_forged_and_a_stale_cursor_are_told_apart(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b"))
    cursor = client.get(URL, params={"limit": 1}).json()["next"]
    forged = client.get(URL, params={"cursor": "A" * 80})
    stale = client.get(URL, params={"cursor": cursor, "modality": "MR"})
    assert [answer.status_code for answer in (forged, stale)] == [400, 400]
    assert forged.json()["type"] == "urn:vigil:problem:forged-cursor"
    assert stale.json()["type"] == "urn:vigil:problem:stale-cursor"


@pytest.mark.parametrize(
    ("masking", "label"), [(Masking.FULL, "Roe, Jane"), (Masking.INITIALS, "J. R."), (Masking.NONE, "")]
)
def test_a_row_shows_of_a_person_what_the_settings_allow(
    store: Store, settings: Settings, masking: Masking, label: str
) -> None:
    seed = Seed(name="a")
    with store.transaction() as session:
        plant(session, seed)
        identities.note(session, seed.key, Identity(name="Roe^Jane", patient_id="P-17"))
    chosen = settings.model_copy(update={"masking": masking})
    client = TestClient(create_app(store=store, settings=chosen), base_url="http://127.0.0.1:8080")
    for url in (URL, f"/api/v1/studies/{seed.key}"):
        answer = client.get(url)
        body = answer.json()
        row = body["rows"][0] if "rows" in body else body["row"]
        assert row["identity"]["label"] == label
        assert ("Roe" in answer.text, "P-17" in answer.text) == (masking is Masking.FULL,) * 2


def test_the_report_of_harm_follows_the_limit_of_the_settings(store: Store, settings: Settings) -> None:
    now = datetime.now(UTC)
    waits = Seed(name="waits", received_at=now - timedelta(hours=3))
    later = Seed(name="later", received_at=now - timedelta(hours=2), seen_at=now - timedelta(hours=1))
    with store.transaction() as session:
        plant(session, waits, later)
    delayed = []
    for longest_unread_s in (7200.0, 14_400.0):
        chosen = settings.model_copy(update={"longest_unread_s": longest_unread_s})
        client = TestClient(create_app(store=store, settings=chosen), base_url="http://127.0.0.1:8080")
        report = client.get(f"{URL}/harm").json()
        overdue = [row["is_overdue"] for row in client.get(URL).json()["rows"]]
        delayed.append((report["delayed"], report["overdue"], sum(overdue)))
        assert f"vigil_delayed_studies {report['delayed']:.1f}" in client.get("/metrics").text
    assert delayed == [(1, 1, 1), (0, 0, 0)]

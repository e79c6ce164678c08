import pytest

from service.store import Store
from service.study import DISCLAIMER, DeliveryStatus, State
from tests.seeds import CALIBRATION_SHA256, GROUP, MODEL, MODEL_SHA256, Seed, plant
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


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=many", "offset=1", "state=usual"])
def test_a_wrong_or_unknown_parameter_is_refused_without_repeating_it(client: TestClient, query: str) -> None:
    answer = client.get(f"{URL}?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "many" not in answer.text

import pytest

from service.store import Store, cohorts
from service.study import CohortState, MemberState, State
from tests.seeds import Seed, plant
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres


def test_a_cohort_says_how_far_it_is(client: TestClient, store: Store) -> None:
    seeds = [Seed(name="a"), Seed(name="b", state=State.NOT_ASSESSABLE), Seed(name="c", state=State.QUEUED)]
    with store.transaction() as session:
        plant(session, *seeds)
        one = cohorts.begin(session, name="spring", source="secret", q=0.05, actor="me")
        cohorts.have(session, one.id, {seed.key: 1 for seed in seeds}, state=MemberState.TAKEN)
        cohorts.leave_out(session, one.id, {"d" * 20: "not_found"})
        cohorts.move(session, one.id, CohortState.GATHERED, files={}, actor="me")

    answer = client.get("/api/v1/cohorts")
    (found,) = answer.json()
    assert {name: found[name] for name in ("studies", "queued", "scored", "not_assessable", "left_out")} == {
        "studies": 4, "queued": 3, "scored": 1, "not_assessable": 1, "left_out": 1,
    }  # fmt: skip
    assert (found["state"], found["q"], found["ended_at"]) == ("gathered", 0.05, None)
    assert "secret" not in answer.text
    assert client.get(f"/api/v1/cohorts/{found['id']}").json() == found
    assert client.get("/api/v1/cohorts/99").status_code == 404

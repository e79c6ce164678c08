"""The page of the scanners by its routes: who may decide, and what a proposal is laid beside."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access import Role
from service.api import create_app, tries
from service.calibrations import Calibrations
from service.commissioning import BY_SCANNER
from service.scanners import survey
from service.settings import Settings
from service.store import Store, calibrations, people
from service.store.calibrations import Calibration
from service.study import CalibrationState, Origin, State
from tests.reference_documents import ELSEWHERE, HERE, document
from tests.seeds import MODEL, MODEL_SHA256, MORNING, Seed, plant
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

AS_PAGE = {"Accept": "text/html"}
Client = Callable[[Role], TestClient]


@pytest.fixture
def client(store: Store, tmp_path: Path) -> Iterator[Client]:
    """Browser of somebody with a role, without cookies: by token."""
    tries.forget()
    app = create_app(
        store=store, settings=Settings(data=tmp_path), model=MODEL, calibrations=Calibrations(site="north")
    )

    def of(role: Role) -> TestClient:
        with store.transaction() as session:
            _, secret = people.make_token(session, role.value, role, actor="test")
        headers = AS_PAGE | {"Authorization": f"Bearer {secret}"}
        made = TestClient(app, base_url="http://127.0.0.1:8080", headers=headers)
        made.follow_redirects = False
        return made

    yield of
    tries.forget()


def proposed(store: Store, scanner: str | None = None, **more: object) -> Calibration:
    made = document({HERE: 30}, model_sha256=MODEL_SHA256, alike=BY_SCANNER, **more)
    with store.transaction() as session:
        return calibrations.propose(session, made, origin=Origin.COMMISSIONING, actor="a", scanner=scanner)


def state_of(store: Store, one: Calibration) -> CalibrationState:
    with store.transaction() as session:
        return calibrations.find(session, one.id)[0].state


def test_an_operator_looks_and_an_administrator_decides(client: Client, store: Store) -> None:
    one = proposed(store, author="<b>ada</b>")
    address = f"/scanners/calibrations/{one.id}/accept"
    operator, admin = client(Role.OPERATOR), client(Role.ADMIN)

    assert client(Role.READER).get("/scanners").status_code == 403
    page = operator.get("/scanners").text
    assert "An administrator decides." in page
    assert "&lt;b&gt;ada" in page
    assert operator.post(address, data={"reason": "x"}).status_code == 403
    assert state_of(store, one) is CalibrationState.PROPOSED
    assert admin.post(address, data={"reason": "x"}).status_code == 303
    assert state_of(store, one) is CalibrationState.ACCEPTED
    assert admin.post(address, data={"reason": "x"}).status_code == 409
    assert admin.post(f"/scanners/calibrations/{one.id}/retire", data={"reason": "y"}).status_code == 303
    assert state_of(store, one) is CalibrationState.RETIRED
    assert admin.post("/scanners/calibrations/999/refuse").status_code == 404


def test_the_api_tells_and_decides_the_same(client: Client, store: Store) -> None:
    one, other = proposed(store), proposed(store, version=2)
    with store.transaction() as session:
        plant(session, Seed(name="a", group_key=HERE.key, received_at=datetime.now(UTC)))
    admin = client(Role.ADMIN)
    answer = admin.post(f"/api/v1/calibrations/{one.id}/accept", json={"reason": "looked at"})
    assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
    assert admin.post(f"/api/v1/calibrations/{other.id}/refuse", json={}).json()["state"] == "refused"
    assert [row["state"] for row in admin.get("/api/v1/calibrations").json()] == ["refused", "accepted"]
    assert admin.get(f"/api/v1/calibrations/{one.id}").json()["groups"] == [{"group": HERE.label, "n": 30}]
    (scanner,) = admin.get("/api/v1/groups").json()["groups"]
    assert (scanner["label"], scanner["ranked"], scanner["bases"][0]["n"]) == (HERE.scanner.label, 1, 30)
    assert admin.post("/api/v1/calibrations/rescore").json() == {"queued": 0, "left": 0}
    gone = admin.post(f"/api/v1/calibrations/{one.id}/retire", json={"reason": "drill"})
    assert gone.json() == {"calibration": None}
    assert client(Role.VIEWER).post(f"/api/v1/calibrations/{one.id}/accept", json={}).status_code == 403


def test_a_proposal_is_laid_beside_what_its_studies_are_compared_with(store: Store) -> None:
    one = proposed(store, scanner=HERE.scanner.key)
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.NOT_ASSESSABLE, reason="uncalibrated", group_key=HERE.key))

    def looked() -> tuple[bool, int, str]:
        with store.transaction() as session:
            found = survey(session, Calibrations(), MODEL, since=MORNING, own_reference=(1.0, 2.0))
        (scanner,) = found.scanners
        return bool(scanner.bases), len(found.proposals[0].before), found.proposals[0].beside

    assert looked() == (True, 2, "of the model's own reference")
    for groups, wanted in (
        ({ELSEWHERE: 40}, (False, 40, "of other scanners")),
        ({HERE: 25, ELSEWHERE: 40}, (True, 25, "they are compared with now")),
    ):
        made = document(groups, model_sha256=MODEL_SHA256, alike=BY_SCANNER)
        with store.transaction() as session:
            known = calibrations.propose(session, made, origin=Origin.FILE, actor="a")
            calibrations.accept(session, known.id, actor="a")
        assert looked() == wanted
    assert state_of(store, one) is CalibrationState.PROPOSED


def test_an_uncalibrated_study_shows_its_raw_score_and_looks_neither_ranked_nor_normal(
    client: Client, store: Store
) -> None:
    seed = Seed(name="a", state=State.NOT_ASSESSABLE, reason="uncalibrated", study_score=4.25)
    with store.transaction() as session:
        plant(session, seed)
    viewer = client(Role.VIEWER)
    listed, one = viewer.get("/").text, viewer.get(f"/studies/{seed.key}").text

    for page in (listed, one):
        assert "Not calibrated for this scanner." in page
        assert "Raw score 4.25" in page
    assert 'class="band uncalibrated"' in listed
    assert 'class="verdict ranked"' not in one
    (row,) = viewer.get("/api/v1/worklist?band=uncalibrated").json()["rows"]
    assert (row["band"], row["raw_score"]) == ("uncalibrated", 4.25)
    assert (row["rank"], row["assessment"]) == (None, None)

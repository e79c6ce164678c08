import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from service.access import Identity, Masking, Role
from service.api import create_app
from service.api.callers import COOKIE
from service.replay import replay
from service.settings import Settings
from service.store import Store, identities, people
from service.study import State
from service.web import listing
from tests.seeds import MODEL, Seed, plant
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
BROKEN = Seed(name="broken", description="brain, broken", state=State.FAILED)
SCORED = Seed(name="scored", description="brain, scored")

SignIn = Callable[..., TestClient]


@pytest.fixture
def sign_in(store: Store, tmp_path: Path) -> SignIn:
    """Browser of somebody who has signed in, on two studies."""
    with store.transaction() as session:
        plant(session, BROKEN, SCORED)
        identities.note(session, SCORED.key, Identity(name="Doe^Jane", patient_id="P-1", sex="F"))

    def enter(name: str, role: Role, masking: Masking = Masking.INITIALS) -> TestClient:
        app = create_app(store=store, settings=Settings(data=tmp_path, masking=masking), model=MODEL)
        client = TestClient(app, base_url="http://127.0.0.1:8080", headers={"Accept": "text/html"})
        with store.transaction() as session:
            people.accept(session, people.invite(session, role, actor="t"), name=name, password=PASSWORD)
            client.cookies.set(COOKIE, people.sign_in(session, name, PASSWORD))
        return client

    return enter


def csrf_of(client: TestClient) -> str:
    return str(client.get("/api/v1/me").json()["csrf"])


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        (Role.VIEWER, set()),
        (Role.READER, {"Mark seen", "Reveal"}),
        (Role.OPERATOR, {"Mark seen", "Reveal", "Try again"}),
    ],
)
def test_a_person_is_offered_what_their_role_may_do(sign_in: SignIn, role: Role, shown: set[str]) -> None:
    page = sign_in("ada", role).get("/").text
    assert {label for label in ("Mark seen", "Reveal", "Try again") if f"{label}</button>" in page} == shown


@pytest.mark.parametrize("path", ["seen", "reveal", "rescore"])
def test_a_form_of_another_page_changes_nothing(sign_in: SignIn, path: str) -> None:
    client = sign_in("ada", Role.OPERATOR)
    assert client.post(f"/studies/{SCORED.key}/{path}", data={"csrf": "guess"}).status_code == 403
    sent = {"csrf": csrf_of(client), "back": "//evil.example"}
    answer = client.post(f"/studies/{SCORED.key}/{path}", data=sent, follow_redirects=False)
    assert answer.status_code == (200 if path == "reveal" else 303)
    assert answer.headers.get("location", "/") == "/"
    assert "evil.example" not in answer.text


def test_what_is_masked_is_in_no_page_until_it_is_revealed(sign_in: SignIn) -> None:
    client = sign_in("ada", Role.READER)
    page = client.get("/").text
    assert "J. D." in page
    assert "Doe" not in page
    revealed = client.post(f"/studies/{SCORED.key}/reveal", data={"csrf": csrf_of(client)})
    assert "Doe, Jane" in revealed.text
    assert "Doe" not in client.get("/").text
    assert "J. D." not in sign_in("eve", Role.READER, Masking.NONE).get("/").text


def test_saved_filters_are_a_persons_own(sign_in: SignIn) -> None:
    ada, bob = sign_in("ada", Role.READER), sign_in("bob", Role.READER)
    form = {"csrf": csrf_of(ada), "name": "<b>mine", "query": "text=brain&cursor=x&priority=stat"}
    answer = ada.post("/filters", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/?text=brain&priority=stat"
    assert '<a href="/?text=brain&amp;priority=stat">&lt;b&gt;mine</a>' in ada.get("/").text
    assert "mine" not in bob.get("/").text


def test_a_filter_that_hides_who_needs_a_person_says_so(
    sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in("ada", Role.READER)
    hint = '<a href="/?band=unjudged">1 study that needs a person</a>'
    assert f"This filter hides {hint}" in client.get("/?percentile_below=5").text
    assert f"This filter hides {hint}" in client.get("/?band=ranked").text
    for whole in ("/", "/?text=broken", "/?band=unjudged"):
        assert hint not in client.get(whole).text
    monkeypatch.setattr(listing, "PAGE_LENGTH", 1)
    first = client.get("/").text
    assert hint not in first
    second = re.search(r'rel="next" href="([^"]+)"', first)
    assert second is not None
    page = client.get(unescape(second.group(1))).text
    assert f"Other pages hold {hint}" in page
    assert "No study waits for a person" not in page


def test_a_filter_that_hides_who_has_no_percentile_says_so(sign_in: SignIn, store: Store) -> None:
    client = sign_in("ada", Role.READER)
    hint = '<a href="/?band=uncalibrated">1 study without a percentile</a>'
    assert hint not in client.get("/?percentile_below=5").text
    with store.transaction() as session:
        plant(session, Seed(name="without", state=State.NOT_ASSESSABLE, reason="drifted"))

    for narrowed in ("/?percentile_below=5", "/?band=ranked"):
        assert f"This filter hides {hint}" in client.get(narrowed).text
    for whole in ("/", "/?band=uncalibrated"):
        assert hint not in client.get(whole).text


def test_a_list_without_such_studies_says_that_nobody_waits(sign_in: SignIn, store: Store) -> None:
    client = sign_in("ada", Role.READER)
    with store.transaction() as session:
        replay(session, BROKEN.key, actor="t")
    for asked in ("/", "/?percentile_below=5"):
        assert "No study waits for a person" in client.get(asked).text


@pytest.mark.parametrize(
    ("query", "status"),
    [("colour=red", 422), ("priority=high", 422), ("cursor=forged", 400), ("received_from=today", 422)],
)
def test_a_question_nobody_understands_is_a_page_that_says_so(
    sign_in: SignIn, query: str, status: int
) -> None:
    answer = sign_in("ada", Role.READER).get(f"/?{query}")
    assert answer.status_code == status
    assert "Back to the worklist" in answer.text


def test_rows_are_updated_by_key_and_unknown_ones_left_out(sign_in: SignIn) -> None:
    client = sign_in("ada", Role.VIEWER)
    answer = client.get("/rows", params={"key": [SCORED.key, "a" * 20]})
    assert answer.text.count(f'id="state-{SCORED.key}"') == 1
    assert "a" * 20 not in answer.text
    assert client.get("/rows", params={"key": ["x"]}).status_code == 422

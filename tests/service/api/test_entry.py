from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from service.access import Role
from service.api import create_app
from service.api.entry import MOST_BYTES
from service.settings import Settings
from service.store import Store, people
from tests.seeds import MODEL, Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

STUDY = f"/api/v1/studies/{study_key('a')}"
MARKUP = "<script>alert(1)</script>"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def reader(client: TestClient, store: Store) -> TestClient:
    """Client on a list of one scored study."""
    with store.transaction() as session:
        plant(session, Seed(name="a"))
    return client


def refused(answer: object, status: int, code: str) -> bool:
    return (answer.status_code, answer.headers["content-type"], answer.json()["type"]) == (  # type: ignore[attr-defined]
        status,
        "application/problem+json",
        f"urn:vigil:problem:{code}",
    )


@pytest.mark.parametrize("url", [f"{STUDY}/feedback", f"{STUDY}/seen", "/sign-in", "/healthz"])
def test_a_body_that_says_it_is_too_large_is_not_read(reader: TestClient, url: str) -> None:
    answer = reader.post(url, content=b" " * (MOST_BYTES + 1), headers=JSON)
    assert refused(answer, 413, "too-large")


def test_a_body_that_does_not_end_is_left(reader: TestClient) -> None:
    def pieces() -> Iterator[bytes]:  # sent without a length
        yield from [b" " * MOST_BYTES, b" "]

    answer = reader.post(f"{STUDY}/feedback", content=pieces(), headers=JSON)
    assert refused(answer, 413, "too-large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/json"])
def test_a_body_of_another_kind_is_refused(reader: TestClient, kind: str) -> None:
    answer = reader.post(
        f"{STUDY}/feedback", content=b'{"verdict": "artefact"}', headers={"Content-Type": kind}
    )
    assert refused(answer, 415, "not-json")


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff\xfe", b'{"verdict": "\\ud800"}', b"1e999"])
def test_json_that_is_none_or_of_another_shape_is_refused(reader: TestClient, content: bytes) -> None:
    assert refused(reader.post(f"{STUDY}/feedback", content=content, headers=JSON), 422, "invalid-request")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize(("method", "verb"), [("POST", "seen"), ("DELETE", "seen"), ("POST", "park")])
def test_a_change_from_another_sites_page_is_refused(
    reader: TestClient, headers: dict[str, str], method: str, verb: str
) -> None:
    assert refused(reader.request(method, f"{STUDY}/{verb}", headers=headers), 403, "cross-site")


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://127.0.0.1:8080"}]
)
def test_our_own_pages_and_programs_are_let_in(reader: TestClient, headers: dict[str, str]) -> None:
    assert reader.post(f"{STUDY}/seen", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("url", "headers", "status", "said"),
    [
        ("/sign-in", {"Origin": "null"}, 403, "Another site&#39;s page sent this request."),
        (f"/studies/{study_key('a')}/seen", {"Content-Length": "999999"}, 413, "larger than anything"),
    ],
)
def test_a_browser_is_refused_by_a_page(
    reader: TestClient, url: str, headers: dict[str, str], status: int, said: str
) -> None:
    answer = reader.post(url, headers=headers | {"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in answer.text
    assert "Back to the worklist" in answer.text


def test_looking_is_left_to_links_from_anywhere(reader: TestClient) -> None:
    assert reader.get(STUDY, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_an_expired_token_lets_nobody_in(store: Store, tmp_path: Path) -> None:
    app = create_app(store=store, settings=Settings(data=tmp_path), model=MODEL)
    client = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
    with store.transaction() as session:
        _, secret = people.make_token(
            session, "old", Role.READER, actor="test", life=timedelta(microseconds=1)
        )
    answer = client.post(f"{STUDY}/seen", headers={"Authorization": f"Bearer {secret}"})
    assert refused(answer, 401, "not-signed-in")


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", f"/{MARKUP}", None),
        ("GET", f"/studies/{MARKUP}", None),
        ("GET", f"/api/v1/studies/{MARKUP}", None),
        ("GET", f"/api/v1/worklist?{MARKUP}=1", None),
        ("GET", f"/api/v1/worklist?band={MARKUP}", None),
        ("POST", f"{STUDY}/feedback", {"verdict": MARKUP}),
        ("POST", f"{STUDY}/feedback", {MARKUP: MARKUP}),
        ("POST", f"{STUDY}/resend", {"destination": MARKUP}),
        ("PUT", f"{STUDY}/assignment", {"assigned_to": MARKUP}),
    ],
)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_markup_that_was_sent_never_comes_back_raw(
    reader: TestClient, method: str, url: str, body: object, accept: str
) -> None:
    answer = reader.request(method, url, json=body, headers={"Accept": accept, "If-Match": "*"})
    assert 400 <= answer.status_code < 500
    assert "<script>alert" not in answer.text

"""Every route times every role, and what another page may make a browser send."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from limits import RateLimitItemPerMinute
from sqlalchemy import select

from service.access import GRANTS, Role
from service.api import create_app, tries
from service.api.callers import COOKIE, CSRF_HEADER
from service.settings import Settings
from service.store import Store, people
from service.store.tables import AuditRow
from tests.routes import KEY, address, needed, routes
from tests.seeds import MODEL
from tests.web_client import TestClient

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
PUBLIC = {
    *("/healthz", "/readyz", "/metrics"),
    *("/sign-in", "/sign-in/provider", "/sign-in/provider/return", "/welcome"),
}


@pytest.fixture(autouse=True)
def _no_tries_yet() -> None:
    tries.forget()


@pytest.fixture
def app_client(store: Store, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(store=store, settings=Settings(data=tmp_path, accept_stow=True), model=MODEL)
    with TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False) as client:
        client.follow_redirects = False
        yield client


def bearer(store: Store, role: Role) -> dict[str, str]:
    with store.transaction() as session:
        _, secret = people.make_token(session, f"test {role}", role, actor="test")
    return {"Authorization": f"Bearer {secret}"}


def test_only_the_public_routes_ask_nobody(app_client: TestClient) -> None:
    assert {route.path for route, _ in routes(app_client.app) if needed(route) is None} == PUBLIC


@pytest.mark.parametrize("role", list(Role))
def test_every_route_lets_in_who_may_and_nobody_else(
    app_client: TestClient, store: Store, role: Role
) -> None:
    headers = bearer(store, role)
    for route, method in routes(app_client.app):
        permission = needed(route)
        if permission is None:
            continue
        answer = app_client.request(method, address(route), headers=headers)
        if permission in GRANTS[role]:
            assert answer.status_code not in {401, 403, 500}, (method, route.path, answer.text)
        else:
            assert answer.status_code == 403, (method, route.path)


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer vigil_guess"}, {"Cookie": f"{COOKIE}=guess"}]
)
def test_nobody_gets_in_without_saying_who_they_are(app_client: TestClient, headers: dict[str, str]) -> None:
    for route, method in routes(app_client.app):
        if needed(route) is None:
            continue
        answer = app_client.request(method, address(route), headers=headers)
        assert answer.status_code == 401, (method, route.path)
        assert answer.headers["www-authenticate"] == "Bearer"


def signed_in(client: TestClient, store: Store, role: Role = Role.ADMIN) -> str:
    """Sign in by a one-time link; return the token of the session's forms."""
    with store.transaction() as session:
        secret = people.invite(session, role, actor="test")
    answer = client.post("/welcome", data={"code": secret, "name": "ada", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return str(client.get("/api/v1/me").json()["csrf"])


def test_a_browser_is_sent_to_the_form_and_back(app_client: TestClient, store: Store) -> None:
    signed_in(app_client, store)
    app_client.cookies.clear()
    sent = app_client.get(f"/studies/{KEY}?frame=3", headers={"Accept": "text/html"})
    assert sent.status_code == 303
    form = app_client.get(sent.headers["location"], headers={"Accept": "text/html"})
    assert f'value="/studies/{KEY}?frame=3"' in form.text
    back = app_client.post(
        "/sign-in", data={"name": "ada", "password": PASSWORD, "to": f"/studies/{KEY}?frame=3"}
    )
    assert back.headers["location"] == f"/studies/{KEY}?frame=3"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1"]
)
def test_nobody_is_sent_elsewhere_after_signing_in(app_client: TestClient, store: Store, target: str) -> None:
    signed_in(app_client, store)
    answer = app_client.post("/sign-in", data={"name": "ada", "password": PASSWORD, "to": target})
    assert answer.headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(app_client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        secret = people.invite(session, Role.VIEWER, actor="test")
    form = {"code": secret, "name": "vic", "password": PASSWORD}
    cookie = app_client.post("https://127.0.0.1:8080/welcome", data=form).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert cookie.startswith("__host-")
    assert "path=/;" in cookie
    assert "domain" not in cookie
    assert "secure" in cookie


@pytest.mark.parametrize("token", [None, "guess"])
def test_a_change_without_the_sessions_token_is_refused(
    app_client: TestClient, store: Store, token: str | None
) -> None:
    signed_in(app_client, store)
    headers = {CSRF_HEADER: token} if token else {}
    answer = app_client.post("/api/v1/tokens", json={"name": "ris"}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("no-csrf-token")
    with store.transaction() as session:
        assert people.tokens(session) == []


def test_a_change_with_the_sessions_token_is_made(app_client: TestClient, store: Store) -> None:
    csrf = signed_in(app_client, store)
    made = app_client.post("/api/v1/tokens", json={"name": "ris"}, headers={CSRF_HEADER: csrf})
    assert made.status_code == 201
    secret = {"Authorization": f"Bearer {made.json()['secret']}"}
    app_client.cookies.clear()
    assert app_client.get("/api/v1/me", headers=secret).json()["name"] == "token:ris"


@pytest.mark.parametrize("path", ["/api/v1/tokens", "/api/v1/people"])
def test_an_answer_that_is_a_secret_is_not_kept_for_a_repetition(
    app_client: TestClient, store: Store, path: str
) -> None:
    headers = bearer(store, Role.ADMIN) | {"Idempotency-Key": "k"}
    answer = app_client.post(path, json={"name": "ris", "role": "viewer"}, headers=headers)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (
        400,
        "idempotency-key-not-taken",
    )


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/api/v1/people", {"json": {"name": "a\0b", "role": "viewer"}}),
        ("POST", "/api/v1/tokens", {"json": {"name": "a\0b"}}),
        ("DELETE", "/api/v1/people/a%00b", {}),
        ("POST", "/admin/people", {"data": {"name": "a\0b", "role": "viewer"}}),
        ("POST", "/admin/people/end", {"data": {"name": "a\0b"}}),
        ("GET", "/admin/audit?actor=a%00b", {}),
        ("POST", "/filters", {"data": {"name": "a\0b", "query": "modality=MR"}}),
        ("POST", "/sign-in", {"data": {"name": "a\0b", "password": PASSWORD}}),
    ],
)
def test_a_name_that_no_table_can_hold_is_refused(
    app_client: TestClient, store: Store, method: str, path: str, sent: dict[str, Any]
) -> None:
    answer = app_client.request(method, path, headers=bearer(store, Role.ADMIN), **sent)
    assert answer.status_code == 422


def test_signing_out_ends_the_session_on_the_server(app_client: TestClient, store: Store) -> None:
    csrf = signed_in(app_client, store)
    cookie = app_client.cookies[COOKIE]
    assert app_client.post("/sign-out", data={"csrf": csrf}).status_code == 200
    answer = app_client.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert answer.status_code == 401


def test_signing_out_everywhere_ends_the_sessions_of_other_browsers(
    app_client: TestClient, store: Store
) -> None:
    csrf = signed_in(app_client, store)
    with store.transaction() as session:
        other = people.sign_in(session, "ada", PASSWORD)
    app_client.post("/sign-out", data={"csrf": csrf, "everywhere": "true"})
    answer = app_client.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={other}"})
    assert answer.status_code == 401


def test_a_failed_sign_in_is_on_record_by_account_and_not_by_what_was_typed(
    app_client: TestClient, store: Store
) -> None:
    signed_in(app_client, store)
    for name in ("ada", "my secret password"):
        app_client.post("/sign-in", data={"name": name, "password": "wrong"})
    with store.transaction() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == "person.sign_in_failed")).all()
    assert [(row.actor, row.detail) for row in rows] == [
        (actor, {"reason": "password", "address": "testclient"}) for actor in ("ada", "nobody")
    ]


def test_guessing_is_slowed_down(app_client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "OF_ADDRESS", RateLimitItemPerMinute(1))
    answers = [app_client.post("/sign-in", data={"name": "a", "password": "b"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [401, 429]
    assert int(answers[-1].headers["retry-after"]) > 0


def test_wrong_passwords_of_a_stranger_keep_nobody_out_of_where_they_work(
    app_client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(client: TestClient, password: str) -> int:
        sent = {"name": "ada", "password": password}
        return client.post("/sign-in", data=sent, follow_redirects=False).status_code

    monkeypatch.setattr(tries, "OF_ACCOUNT", RateLimitItemPerMinute(1))
    signed_in(app_client, store)
    stranger = TestClient(app_client.app, base_url=str(app_client.base_url), client=("198.51.100.1", 1))
    assert [status(app_client, PASSWORD) for _ in range(2)] == [303, 303]
    assert [status(stranger, "wrong") for _ in range(2)] == [401, 429]
    assert status(app_client, PASSWORD) == 303


def test_changes_are_counted_and_instances_are_not(
    app_client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "OF_CALLER", RateLimitItemPerMinute(1))
    headers = bearer(store, Role.ADMIN)
    changes = [app_client.delete("/api/v1/tokens/99999", headers=headers).status_code for _ in range(2)]
    instances = [app_client.post("/dicom-web/studies", headers=headers).status_code for _ in range(2)]
    assert changes == [404, 429]
    assert instances == [415, 415]


def test_open_access_is_refused_where_others_can_reach_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Settings(data=tmp_path, access="open", api_host="0.0.0.0")
    with pytest.raises(ValueError, match="proxy"):
        Settings(data=tmp_path, access="open", address="https://vigil.hospital.example")
    with pytest.raises(ValueError, match="proxy"):
        Settings(data=tmp_path, access="open", proxies="127.0.0.1")


def test_with_open_access_anybody_may_view_and_nobody_administers(store: Store, tmp_path: Path) -> None:
    app = create_app(store=store, settings=Settings(data=tmp_path, access="open"), model=MODEL)
    client = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
    assert client.get("/api/v1/worklist").status_code == 200
    assert client.get("/api/v1/tokens").status_code == 403


def test_a_long_address_leads_to_the_form_and_back_and_one_too_long_to_its_page(
    app_client: TestClient,
) -> None:
    asked = {"Accept": "text/html"}
    long, too_long = ("/?" + "&".join(f"description={n:040}" for n in range(count)) for count in (20, 60))

    kept, cut = (
        app_client.get(address, headers=asked, follow_redirects=False).headers["location"]
        for address in (long, too_long)
    )

    assert app_client.get(kept, headers=asked).status_code == 200
    assert unquote(kept.partition("to=")[2]) == long
    assert unquote(cut.partition("to=")[2]) == "/"

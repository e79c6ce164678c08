"""Single sign-on against a running provider: what it vouches for gets in, whatever else does not."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx
import pytest
from httpx import Response
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import select

from service.access import Role
from service.api import create_app
from service.api.tries import forget
from service.errors import SettingsError
from service.provider import RETURN_PATH, Provider
from service.settings import Settings
from service.store import Store, people
from service.store.tables import AuditRow, PersonRow
from tests.provider import CLIENT, SECRET, Idp, Person, running
from tests.seeds import MODEL
from tests.web_client import TestClient

HOME = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def server() -> Iterator[Idp]:
    with running(f"{HOME}{RETURN_PATH}") as provider:
        yield provider


@pytest.fixture
def idp(server: Idp) -> Idp:
    server.person = Person(sub="s-1", preferred_username="jane", groups=["radiologists"])
    server.alter, server.sign, server.userinfo = (lambda claims: claims), None, {}
    server.asked.clear()
    forget()
    return server


def configuration(folder: Path, **more: str) -> Path:
    secret = folder / "oidc.secret"
    secret.write_text(f"{SECRET}\n")
    lines = {
        "issuer": "https://idp.example",
        "client_id": CLIENT,
        "client_secret_file": str(secret),
        "address": HOME,
        "roles": "{pacs: operator, radiologists: reader}",
    } | more
    file = folder / "oidc.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return file


def application(store: Store, folder: Path, issuer: str, **more: str) -> TestClient:
    settings = Settings(data=folder, oidc=configuration(folder, issuer=issuer, **more))
    client = TestClient(
        create_app(store=store, settings=settings, model=MODEL),
        base_url=HOME,
        headers={"Accept": "text/html"},
    )
    client.follow_redirects = False
    return client


@pytest.fixture
def client(store: Store, tmp_path: Path, idp: Idp) -> TestClient:
    return application(store, tmp_path, idp.issuer)


def way_back(client: TestClient, to: str = "/") -> str:
    """Go to the provider and return the address that it sends the browser back to."""
    left = client.get("/sign-in/provider", params={"to": to})
    assert left.status_code == 303
    return httpx.get(left.headers["location"], timeout=30).headers["location"]


def signed_in(client: TestClient, to: str = "/") -> Response:
    return client.get(way_back(client, to))


def refusals(store: Store) -> list[dict[str, Any]]:
    with store.transaction() as session:
        query = select(AuditRow.detail).where(AuditRow.action == "person.sign_in_failed")
        return list(session.scalars(query))


def test_whom_the_provider_vouches_for_gets_in_and_to_where_they_wanted(client: TestClient) -> None:
    answer = signed_in(client, "/studies/" + "a" * 20)

    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/" + "a" * 20)
    me = client.get("/api/v1/me").json()
    assert (me["name"], me["role"]) == ("jane", "reader")


def test_the_question_holds_all_that_protects_the_answer(client: TestClient) -> None:
    left = client.get("/sign-in/provider").headers["location"]

    asked = parse_qs(urlsplit(left).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"]
    assert all(len(asked[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))
    assert SECRET not in left


def test_an_account_belongs_to_issuer_and_subject_not_to_a_name_or_a_mail(
    client: TestClient, store: Store, idp: Idp
) -> None:
    idp.person["email"] = "jane@hospital.example"
    signed_in(client)
    idp.person = Person(
        sub="s-2", preferred_username="jane", email="jane@hospital.example", groups=["radiologists"]
    )
    signed_in(client)

    with store.transaction() as session:
        subjects = session.scalars(select(PersonRow.subject).order_by(PersonRow.id)).all()
        names = session.scalars(select(PersonRow.name)).all()
    assert subjects == [f"{idp.issuer} s-1", f"{idp.issuer} s-2"]
    assert len({*names}) == 2


def test_a_role_follows_the_groups_of_today_and_the_first_line_counts(
    client: TestClient, idp: Idp, store: Store
) -> None:
    signed_in(client)
    idp.person["groups"] = ["radiologists", "pacs"]
    signed_in(client)
    signed_in(client)

    assert client.get("/api/v1/me").json()["role"] == "operator"
    with store.transaction() as session:
        query = select(AuditRow.actor, AuditRow.detail).where(AuditRow.action == "person.role_changed")
        assert session.execute(query).all() == [("jane", {"role": "operator", "by": "identity provider"})]


@pytest.mark.parametrize("groups", [["kitchen"], [], "kitchen", None, {"radiologists": True}, [["pacs"]]])
def test_an_unknown_group_gets_no_role_at_all(
    client: TestClient, store: Store, idp: Idp, groups: object
) -> None:
    idp.person["groups"], idp.userinfo = groups, {"sub": "s-1"}
    answer = signed_in(client)

    assert answer.status_code == 401
    assert "none of your groups" in answer.text
    assert refusals(store)[0]["reason"] == "no_role"
    with store.transaction() as session:
        assert people.is_empty(session)


STRANGER = RSAKey.generate_key(2048, {"kid": "key-0"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},  # two audiences, and nobody says that it was made for us
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000, "exp": 4_000_000_001},
        {"sub": ""},
        {"sub": None},
        {"at_hash": "another"},
        {"azp": "another"},
    ],
)
def test_a_token_that_says_something_else_lets_nobody_in(
    client: TestClient, store: Store, idp: Idp, wrong: dict[str, Any]
) -> None:
    idp.alter = lambda claims: {name: value for name, value in (claims | wrong).items() if value is not None}
    answer = signed_in(client)

    assert answer.status_code == 401
    assert "vouched for nobody" in answer.text
    assert client.get("/api/v1/me").status_code == 401
    assert refusals(store) == [{"reason": "refused", "address": "testclient"}]


def unsigned(claims: dict[str, Any]) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def by_stranger(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "key-0"}, claims, STRANGER)


def by_client_secret(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@pytest.mark.parametrize("sign", [unsigned, by_stranger, by_client_secret, lambda _: "a.b.c", lambda _: ""])
def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    client: TestClient, idp: Idp, sign: Any
) -> None:
    idp.sign = sign

    assert signed_in(client).status_code == 401
    assert client.get("/api/v1/me").status_code == 401


def test_a_clock_may_be_a_little_off(client: TestClient, idp: Idp) -> None:
    idp.alter = lambda claims: claims | {"exp": claims["iat"] - 30, "iat": claims["iat"] + 30}

    assert signed_in(client).status_code == 303


def test_a_changed_key_is_looked_for_once(client: TestClient, idp: Idp, monkeypatch: Any) -> None:
    signed_in(client)
    idp.rotate()
    monkeypatch.setattr("service.provider.KEYS_PAUSE_S", 0.0)

    assert signed_in(client).status_code == 303
    assert idp.asked.count("/keys") == 2


def test_forged_key_names_do_not_make_us_ask_the_provider_every_time(client: TestClient, idp: Idp) -> None:
    signed_in(client)
    idp.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "guess"}, claims, STRANGER)
    for _ in range(3):
        assert signed_in(client).status_code == 401
    assert idp.asked.count("/keys") == 1


def test_a_way_back_leads_in_once(client: TestClient, idp: Idp) -> None:
    back = way_back(client)
    assert client.get(back).status_code == 303
    client.cookies.clear()
    again = client.get(back)

    assert again.status_code == 401
    assert "Begin again" in again.text
    assert idp.asked.count("/token") == 1


def test_a_used_code_lets_nobody_in_under_a_new_state(client: TestClient) -> None:
    code = parse_qs(urlsplit(way_back(client)).query)["code"]
    client.get(way_back(client))
    client.cookies.pop("vigil_session")
    address = urlsplit(way_back(client))
    state = parse_qs(address.query)["state"]
    first = client.get(urlunsplit(address._replace(query=urlencode({"code": code[0], "state": state[0]}))))

    assert first.status_code == 401  # PKCE: the code belongs to another errand


def test_another_browser_cannot_end_a_sign_in_it_did_not_begin(client: TestClient, idp: Idp) -> None:
    back = way_back(client)
    client.cookies.clear()

    assert client.get(back).status_code == 401
    assert "/token" not in idp.asked


@pytest.mark.parametrize("query", ["", "error=access_denied", "code=x", "code=x&state=guess", "state=guess"])
def test_a_way_back_that_nobody_asked_for_leads_nowhere(client: TestClient, query: str) -> None:
    assert client.get(f"{RETURN_PATH}?{query}").status_code == 401


def test_what_the_provider_says_of_an_error_is_not_repeated(client: TestClient) -> None:
    state = parse_qs(urlsplit(way_back(client)).query)["state"][0]
    told = {"state": state, "error": "access_denied", "error_description": "<b>Planted</b>"}
    answer = client.get(RETURN_PATH, params=told)

    assert answer.status_code == 401
    assert "Planted" not in answer.text


def test_another_issuer_on_the_way_back_is_refused(client: TestClient) -> None:
    assert client.get(way_back(client) + "&iss=https%3A%2F%2Fevil.example").status_code == 401


def test_groups_may_come_from_the_userinfo_of_the_same_subject(client: TestClient, idp: Idp) -> None:
    idp.person = Person(sub="s-1", preferred_username="jane")
    idp.userinfo = {"sub": "s-2", "groups": ["pacs"]}
    assert signed_in(client).status_code == 401
    idp.userinfo = {"sub": "s-1", "groups": ["pacs"]}
    assert signed_in(client).status_code == 303
    assert client.get("/api/v1/me").json()["role"] == "operator"


def test_groups_may_stand_inside_an_object(store: Store, tmp_path: Path, idp: Idp) -> None:
    idp.person = Person(sub="s-1", preferred_username="jane", realm_access={"roles": ["pacs"]})
    client = application(store, tmp_path, idp.issuer, groups="realm_access.roles")

    assert signed_in(client).status_code == 303


def test_a_provider_that_is_away_leaves_local_accounts(store: Store, tmp_path: Path) -> None:
    client = application(store, tmp_path, "http://127.0.0.1:1")
    answer = client.get("/sign-in/provider")

    assert answer.status_code == 503
    assert "does not answer" in answer.text
    assert 'name="password"' in answer.text
    assert client.post("/sign-in", data={"name": "ada", "password": "x"}).status_code == 401


def test_passwords_may_be_off(store: Store, tmp_path: Path, idp: Idp) -> None:
    client = application(store, tmp_path, idp.issuer, passwords="false")

    assert 'name="password"' not in client.get("/sign-in").text
    refused = client.post("/sign-in", data={"name": "a", "password": "b"}, headers={"Accept": "*/*"})
    assert refused.status_code == 403
    with store.transaction() as session:
        code = people.invite(session, Role.ADMIN, actor="test")
    chosen = {"code": code, "name": "local", "password": "long enough, twice"}
    assert client.get("/welcome", params={"code": code}).status_code == 403
    assert client.post("/welcome", data=chosen).status_code == 403
    assert client.get("/api/v1/me").status_code == 401


def test_signing_out_offers_the_provider(client: TestClient, idp: Idp) -> None:
    signed_in(client)
    csrf = client.get("/api/v1/me").json()["csrf"]
    page = client.post("/sign-out", data={"csrf": csrf})

    assert page.status_code == 200
    assert f"{idp.issuer}/end?" in page.text
    assert client.get("/api/v1/me").status_code == 401


def test_an_ended_account_stays_out_whatever_the_provider_says(client: TestClient, store: Store) -> None:
    signed_in(client)
    with store.transaction() as session:
        people.end_account(session, "jane", actor="test")

    answer = signed_in(client)
    assert answer.status_code == 401
    assert refusals(store)[0]["reason"] == "account_ended"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", "http://idp.example"),
        ("address", "http://vigil.example"),
        ("roles", "{}"),
        ("roles", "{robots: service}"),
        ("roles", "{people: emperor}"),
        ("client_secret_file", "/nowhere"),
        ("colour", "red"),
    ],
)
def test_a_file_that_says_something_wrong_is_refused_at_the_start(
    tmp_path: Path, name: str, value: str
) -> None:
    file = configuration(tmp_path, **{name: value})

    with pytest.raises(SettingsError, match="VIGIL_OIDC") as refused:
        Provider.open(file, None)
    assert SECRET not in str(refused.value)

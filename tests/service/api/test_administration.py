import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from service.access import Role
from service.api import create_app, tries
from service.api.administration import _day
from service.settings import Settings
from service.store import Store, audit, people
from tests.seeds import MODEL
from tests.web_client import TestClient

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


@pytest.fixture
def admin(store: Store, tmp_path: Path) -> Iterator[TestClient]:
    """Browser of an administrator, who is signed in."""
    tries.forget()
    with store.transaction() as session:
        secret = people.invite(session, Role.ADMIN, actor="test")
        people.accept(session, secret, name="ada", password=PASSWORD)
        cookie = people.sign_in(session, "ada", PASSWORD)
    app = create_app(store=store, settings=Settings(data=tmp_path), model=MODEL)
    client = TestClient(
        app,
        base_url="http://127.0.0.1:8080",
        headers={"Accept": "text/html"},
        cookies={"vigil_session": cookie},
    )
    client.follow_redirects = False
    yield client
    tries.forget()


def send(admin: TestClient, path: str, **form: str) -> str:
    csrf = admin.get("/api/v1/me").json()["csrf"]
    answer = admin.post(path, data={"csrf": csrf, **form})
    assert answer.status_code in {200, 303}, answer.text
    return answer.text


def test_a_token_is_made_told_once_and_revoked(admin: TestClient, store: Store) -> None:
    told = send(admin, "/admin/tokens", name="ris", role="service", days="30")
    secret = told.partition("<code>")[2].partition("</code>")[0]
    with store.transaction() as session:
        (token,) = people.tokens(session)
        assert people.caller_of_token(session, secret) is not None
    assert secret not in admin.get("/admin/people").text
    send(admin, f"/admin/tokens/{token.id}/revoke")
    with store.transaction() as session:
        assert people.caller_of_token(session, secret) is None


def test_somebody_is_invited_changed_and_ended(admin: TestClient, store: Store) -> None:
    told = send(admin, "/admin/people", role="viewer")
    code = told.partition("code=")[2].partition("</code>")[0]
    with store.transaction() as session:
        people.accept(session, code, name="<i>vic</i>", password=PASSWORD)
    assert "<i>vic" not in admin.get("/admin/people").text
    send(admin, "/admin/people/role", name="<i>vic</i>", role="reader")
    send(admin, "/admin/people/end", name="<i>vic</i>")
    with store.transaction() as session:
        vic = next(one for one in people.accounts(session) if one.name != "ada")
    assert (vic.role, vic.is_active) == (Role.READER, False)


def test_a_change_without_the_pages_token_is_refused(admin: TestClient, store: Store) -> None:
    assert admin.post("/admin/tokens", data={"name": "ris", "role": "admin"}).status_code == 403
    with store.transaction() as session:
        assert people.tokens(session) == []


def test_the_last_administrator_stays_and_the_page_says_so(admin: TestClient) -> None:
    csrf = admin.get("/api/v1/me").json()["csrf"]
    answer = admin.post("/admin/people/end", data={"csrf": csrf, "name": "ada"})
    assert answer.status_code == 409
    assert "last administrator" in answer.text


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("?actor=eve", 2),
        ("?action=study", 150),
        ("?action=study.viewed&actor=eve", 1),
        ("?study=" + "b" * 20, 1),
        ("?day=2020-01-01", 0),
    ],
)
def test_the_trail_is_read_by_who_what_and_which(
    admin: TestClient, store: Store, query: str, rows: int
) -> None:
    with store.transaction() as session:
        for _ in range(149):
            audit.append(session, "study.scored", actor="infer", study_key="a" * 20)
        audit.append(session, "study.viewed", actor="eve", study_key="b" * 20)
        audit.append(session, "token.made", actor="eve", system="<u>")
    first = admin.get(f"/admin/audit{query}").text
    assert first.count('<td class="number">') == min(rows, 100)
    assert ("Older" in first) == (rows > 100)
    assert "<u>" not in first
    if rows > 100:
        older = first.partition('href="/admin/audit?')[2].partition('"')[0].replace("&amp;", "&")
        assert admin.get(f"/admin/audit?{older}").text.count('<td class="number">') == rows - 100


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "9999-12-31"])
def test_a_day_that_is_none_is_told(admin: TestClient, day: str) -> None:
    assert admin.get(f"/admin/audit?day={day}").status_code == 200


@pytest.mark.parametrize("day", [date(2026, 10, 25), date(2026, 3, 29)])
def test_a_day_on_which_the_clocks_change_is_whole(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        begins, ends, _ = _day(day.isoformat())
        following, *_ = _day((day + timedelta(days=1)).isoformat())
    finally:
        monkeypatch.undo()
        time.tzset()

    assert begins is not None
    assert ends == following
    assert ends - begins == timedelta(hours=25 if day.month == 10 else 23)


def test_a_token_without_an_end_is_not_shown_as_one_that_has_ended(admin: TestClient, store: Store) -> None:
    with store.transaction() as session:
        people.make_token(session, "ris", Role.READER, actor="ada")
        people.make_token(session, "old", Role.READER, actor="ada", life=timedelta(seconds=-1))

    table = admin.get("/admin/people").text.partition('id="tokens"')[2].partition("</table>")[0]

    assert "no end: until it is revoked" in table
    assert table.count("(over)") == 1

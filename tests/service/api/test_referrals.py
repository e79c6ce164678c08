import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from service.access import Role
from service.api import create_app
from service.api.referrals import today
from service.settings import Settings
from service.store import Store, audit, people, referrals
from service.store.tables import AuditRow
from service.study import REFERRAL_MOVES, ReferralState
from tests.seeds import MODEL, Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

KEY = study_key("a")
ADDRESS = f"/api/v1/studies/{KEY}/referrals"
NOTE = "Ask Dr Roe about Jane Doe"


def in_days(days: int) -> str:
    return (today() + timedelta(days=days)).isoformat()


@pytest.fixture
def reader(client: TestClient, store: Store) -> TestClient:
    """Client on a list of one scored study."""
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.25))
    return client


def test_a_finding_goes_from_report_to_closure_and_every_step_stays(reader: TestClient, store: Store) -> None:
    made = reader.post(ADDRESS, json={"due": in_days(3), "note": NOTE})
    assert made.status_code == 201
    one = made.headers["location"]
    for version, state in enumerate(("reviewed", "referred", "closed"), start=1):
        sent = reader.put(one, json={"state": state, "due": in_days(3)}, headers={"If-Match": f'"{version}"'})
        assert (sent.status_code, sent.headers["etag"]) == (200, f'"{version + 1}"')

    states = [version["state"] for version in reader.get(f"{one}/history").json()]
    assert states == ["closed", "referred", "reviewed", "reported"]
    with store.transaction() as session:
        audit.verify(session)
        rows = session.execute(
            select(AuditRow.action, AuditRow.detail).where(AuditRow.action.startswith("referral."))
        ).all()
    assert [action for action, _ in rows] == [f"referral.{state}" for state in reversed(states)]
    assert NOTE not in str(rows)  # the trail names nobody


def test_what_somebody_changed_meanwhile_is_not_overwritten(reader: TestClient) -> None:
    one = reader.post(ADDRESS, json={"due": in_days(3)}).headers["location"]
    body = {"state": "reviewed", "due": in_days(3)}
    assert reader.put(one, json=body).status_code == 428
    assert reader.put(one, json=body, headers={"If-Match": '"1"'}).status_code == 200
    assert reader.put(one, json=body, headers={"If-Match": '"1"'}).status_code == 412


def test_a_referral_takes_no_step_that_is_not_on_its_way(reader: TestClient) -> None:
    one = reader.post(ADDRESS, json={"due": in_days(3)}).headers["location"]
    reader.put(one, json={"state": "closed", "due": in_days(3)}, headers={"If-Match": "*"})
    back = reader.put(one, json={"state": "reported", "due": in_days(3)}, headers={"If-Match": "*"})
    assert (back.status_code, back.json()["type"].rpartition(":")[2]) == (409, "referral-move")


def test_postgresql_allows_the_moves_that_the_service_has_and_no_change_of_the_past(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.25))
        study = session.scalar(text("SELECT id FROM vigil.study"))
    insert = text(
        "INSERT INTO vigil.referral (study_id, number, version, state, due, by)"
        " VALUES (:study, :number, :version, :state, '2026-03-02', 'x')"
    )
    allowed = set()
    for before in ReferralState:
        for after in ReferralState:
            number = 1 + 10 * list(ReferralState).index(before) + list(ReferralState).index(after)
            way = {"reviewed": ["reported"], "referred": ["reported"], "closed": ["reported"]}.get(before, [])
            steps = [*way, before, after]
            try:
                with store.transaction() as session:
                    for version, state in enumerate(steps, start=1):
                        row = {"study": study, "number": number, "version": version, "state": state}
                        session.execute(insert, row)
            except IntegrityError:
                continue
            allowed.add((before, after))
    stays = {(state, state) for state in ReferralState}
    assert allowed == stays | {(a, b) for a, reached in REFERRAL_MOVES.items() for b in reached}

    with pytest.raises(IntegrityError, match="append-only"), store.transaction() as session:
        session.execute(text("UPDATE vigil.referral SET note = 'changed'"))


def test_the_list_says_when_a_referral_is_due_and_marks_what_is_late(reader: TestClient) -> None:
    reader.post(ADDRESS, json={"due": in_days(3)})
    assert "Referral due in 3 days" in reader.get("/").text
    assert "vigil_referrals_overdue 0.0" in reader.get("/metrics").text

    reader.post(ADDRESS, json={"due": in_days(-2), "note": NOTE})
    page = reader.get("/").text
    late = re.search(r'<strong class="overdue"><svg class="shape overdue".*?</strong>', page, re.DOTALL)
    assert late is not None
    assert "Referral overdue by 2 days" in late[0]
    assert NOTE not in page
    assert "vigil_referrals_overdue 1.0" in reader.get("/metrics").text
    (row,) = reader.get("/api/v1/worklist").json()["rows"]
    assert row["referral"] == {"number": 2, "state": "reported", "due": in_days(-2)}
    found = reader.get("/api/v1/referrals", params={"overdue": "true"}).json()["items"]
    assert [(one["number"], one["is_overdue"]) for one in found] == [(2, True)]


def test_a_closed_referral_leaves_the_list(reader: TestClient, store: Store) -> None:
    one = reader.post(ADDRESS, json={"due": in_days(-2)}).headers["location"]
    reader.put(one, json={"state": "closed", "due": in_days(-2)}, headers={"If-Match": "*"})
    assert "Referral" not in re.sub(r"<header.*?</header>", "", reader.get("/").text, flags=re.DOTALL)
    with store.transaction() as session:
        assert referrals.count_overdue(session, date(2100, 1, 1)) == 0


def test_a_note_is_for_readers_alone(store: Store, tmp_path: Path) -> None:
    app = create_app(store=store, settings=Settings(data=tmp_path), model=MODEL)
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.25))
        referrals.report(session, KEY, due=today(), note=NOTE, actor="ada")
        secrets = [
            people.make_token(session, role, role, actor="test")[1] for role in (Role.VIEWER, Role.READER)
        ]
    shown = []
    for secret in secrets:
        client = TestClient(
            app, base_url="http://127.0.0.1:8080", headers={"Authorization": f"Bearer {secret}"}
        )
        for address in (
            ADDRESS,
            "/api/v1/referrals",
            f"{ADDRESS}/1/history",
            "/referrals",
            f"/studies/{KEY}",
        ):
            answer = client.get(address)
            assert answer.status_code == 200
            shown.append(NOTE in answer.text)
    assert shown == [False] * 5 + [True] * 5


def test_the_page_reports_and_changes_by_plain_forms(reader: TestClient) -> None:
    reader.follow_redirects = False
    sent = reader.post(f"/studies/{KEY}/referrals", data={"due": in_days(5), "back": f"/studies/{KEY}"})
    assert (sent.status_code, sent.headers["location"]) == (303, f"/studies/{KEY}")
    assert "Referral due in 5 days" in reader.get("/referrals").text
    body = {"state": "referred", "due": in_days(1), "version": 1}
    assert reader.post(f"/referrals/{KEY}/1", data=body).status_code == 303
    assert "Referral due in 1 day<" in reader.get("/referrals").text
    assert reader.post(f"/referrals/{KEY}/1", data=body).status_code == 412

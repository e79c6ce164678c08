"""A planted identity is in no answer, log, metric or record, except where the rule says.

The rule: with masking `full` the list and the study page of who may view; anything else by an audited
reveal of who may read. Every route is asked as every role, in every masking.
"""

import json
import logging
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import text

from service.access import GRANTS, Identity, Masking, Permission, Role
from service.api import create_app, tries
from service.settings import Settings
from service.store import Store, identities, people
from service.study import State
from tests.routes import address, needed, routes
from tests.seeds import MODEL, Seed, plant
from tests.web_client import TestClient
from tests.whom import told_of

BIRTH = date(1931, 7, 13)
PLANTED = Identity(
    study_uid="1.2.826.0.1.99977.31415",
    name="<b onload>Zwxfamily^Zwxgiven&'\"{{7*7}}",
    patient_id="Zwxid<script>",
    issuer="Zwxissuer",
    accession_number="Zwxaccession",
    birth_date=BIRTH,
    age_years=94.7,
    sex="F",
)
SECRETS = (
    "Zwxfamily",
    "Zwxgiven",
    "Zwxid",
    "Zwxissuer",
    "Zwxaccession",
    "1931",
    "19310713",
    "99977.31415",
)
STUDY = Seed(name="planted", state=State.SCORED, pictures=1)
# Asked for by right: their standard demands names and UIDs; authenticated, and never logged (I9).
BY_RIGHT = ("/dicom-web", "/ups-rs", "/fhir")
SHOWN = {"/", "/rows", "/studies/{key}", "/api/v1/worklist", "/api/v1/studies/{key}"}
# Answers with the row that changed, as the list shows it.
ROWS = {"/studies/{key}/seen", "/studies/{key}/rescore"}


@pytest.fixture(autouse=True)
def _no_tries_yet() -> Iterator[None]:
    tries.forget()
    yield
    tries.forget()


@pytest.fixture
def planted(store: Store) -> Store:
    with store.transaction() as session:
        plant(session, STUDY)
        identities.note(session, STUDY.key, PLANTED)
    return store


def client(store: Store, folder: Path, masking: Masking) -> TestClient:
    settings = Settings(data=folder, masking=masking)
    app = create_app(store=store, settings=settings, model=MODEL)
    made = TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
    made.follow_redirects = False
    return made


def is_shown(path: str, role: Role, masking: Masking) -> bool:
    """Whether the rule lets this answer hold whom the study is about."""
    if path.endswith("/reveal"):
        return Permission.READ in GRANTS[role]
    return masking is Masking.FULL and path in SHOWN | ROWS


def told(answer: object) -> str:
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())  # type: ignore[attr-defined]
    return f"{headers}\n{answer.content.decode('utf-8', 'replace')}"  # type: ignore[attr-defined]


def found_in(said: str) -> list[str]:
    return told_of(SECRETS, said)


@pytest.mark.parametrize("masking", list(Masking))
@pytest.mark.parametrize("role", list(Role))
def test_no_answer_holds_more_than_the_rule_says(
    planted: Store,
    tmp_path: Path,
    role: Role,
    masking: Masking,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    asking = client(planted, tmp_path, masking)
    with planted.transaction() as session:
        _, secret = people.make_token(session, "walker", role, actor="test")
    read_first = sorted(routes(asking.app), key=lambda one: one[1] != "GET")
    for route, method in read_first:
        if route.path.startswith(BY_RIGHT):
            continue
        path = address(route, STUDY.key) + (f"?key={STUDY.key}" if route.path == "/rows" else "")
        accept = "application/json" if path.startswith("/api/") else "text/html"
        headers = {"Authorization": f"Bearer {secret}", "Accept": accept, "HX-Request": "true"}
        said = told(asking.request(method, path, headers=headers))
        assert PLANTED.study_uid not in said, (method, route.path)
        assert "<b onload" not in said or "application/json" in said, (method, route.path)
        if not is_shown(route.path, role, masking):
            assert found_in(said) == [], (method, route.path, role, masking)
    written = "".join(capfd.readouterr()) + caplog.text
    assert found_in(written) == []


@pytest.mark.parametrize("masking", list(Masking))
def test_who_may_not_fetch_images_gets_nobodys_name_by_any_standard(
    planted: Store, tmp_path: Path, masking: Masking
) -> None:
    asking = client(planted, tmp_path, masking)
    with planted.transaction() as session:
        _, secret = people.make_token(session, "walker", Role.VIEWER, actor="test")
    asked = [one for one in routes(asking.app) if one[0].path.startswith(BY_RIGHT)]
    for route, method in asked:
        answer = asking.request(
            method, address(route, STUDY.key), headers={"Authorization": f"Bearer {secret}"}
        )
        assert found_in(told(answer)) == [], (method, route.path)
        if not route.path.startswith("/fhir"):
            assert answer.status_code == 403, (method, route.path)
    named = {"identifier": PLANTED.accession_number}
    fhir = asking.get("/fhir/ImagingStudy", params=named, headers={"Authorization": f"Bearer {secret}"})
    assert fhir.status_code == 403
    assert len(asked) > 20


@pytest.mark.parametrize("masking", list(Masking))
def test_the_list_and_the_study_show_what_the_masking_grants_and_no_more(
    planted: Store, tmp_path: Path, masking: Masking
) -> None:
    with planted.transaction() as session:
        _, secret = people.make_token(session, "walker", Role.READER, actor="test")
    asking = client(planted, tmp_path, masking)
    asking.headers["Authorization"] = f"Bearer {secret}"

    shown = asking.get("/api/v1/worklist").json()["rows"][0]["identity"]
    page = asking.get(f"/studies/{STUDY.key}", headers={"Accept": "text/html"}).text

    assert (
        shown["label"]
        == {
            Masking.FULL: "<b onload>Zwxfamily, Zwxgiven&'\"{{7*7}}",
            Masking.INITIALS: "Z. <.",
            Masking.NONE: "",
        }[masking]
    )
    assert shown["patient_id"] == (PLANTED.patient_id if masking is Masking.FULL else None)
    assert shown["age_years"] == (None if masking is Masking.NONE else 94)
    assert ("Zwxfamily" in page) == (masking is Masking.FULL)
    (title,) = re.findall("<title>(.*?)</title>", page)
    assert title == f"Vigil: study {STUDY.key}"  # not the description, in which people write names


def test_a_reveal_shows_one_identity_once_and_is_on_record(planted: Store, tmp_path: Path) -> None:
    with planted.transaction() as session:
        _, secret = people.make_token(session, "walker", Role.READER, actor="test")
    asking = client(planted, tmp_path, Masking.INITIALS)
    asking.headers["Authorization"] = f"Bearer {secret}"

    shown = asking.post(f"/api/v1/studies/{STUDY.key}/reveal").json()

    assert (shown["patient_id"], shown["birth_date"]) == (PLANTED.patient_id, BIRTH.isoformat())
    assert found_in(asking.get("/api/v1/worklist").text) == []
    with planted.transaction() as session:
        rows = session.execute(
            text("SELECT actor, study_key, detail FROM audit WHERE action = 'identity.revealed'")
        ).all()
    assert [(row.actor, row.study_key) for row in rows] == [("token:walker", STUDY.key)]


@pytest.mark.parametrize("masking", [Masking.FULL])
def test_nothing_that_is_kept_besides_holds_the_identity(
    planted: Store, tmp_path: Path, masking: Masking
) -> None:
    """One table has it; the audit trail, the change notices and the jobs do not."""
    with planted.transaction() as session:
        _, secret = people.make_token(session, "walker", Role.ADMIN, actor="test")
    asking = client(planted, tmp_path, masking)
    for route, method in routes(asking.app):
        asking.request(method, address(route, STUDY.key), headers={"Authorization": f"Bearer {secret}"})
    with planted.transaction() as session:
        names = session.scalars(
            text(
                "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
                " WHERE table_schema IN ('vigil', 'procrastinate') AND table_type = 'BASE TABLE'"
            )
        ).all()
        holding = [
            name
            for name in names
            if found_in(json.dumps(session.scalars(text(f"SELECT t::text FROM {name} t")).all()))  # noqa: S608
        ]
    assert holding == ["vigil.identity"]


def test_every_route_that_shows_a_study_leaves_a_view_on_record(planted: Store, tmp_path: Path) -> None:
    asking = client(planted, tmp_path, Masking.INITIALS)
    for number, (route, method) in enumerate(routes(asking.app)):
        if method != "GET" or "{key}" not in route.path or route.path.startswith(BY_RIGHT):
            continue
        assert needed(route) is Permission.VIEW
        with planted.transaction() as session:
            _, secret = people.make_token(session, f"walker {number}", Role.VIEWER, actor="test")
        answer = asking.get(
            address(route, STUDY.key), headers={"Authorization": f"Bearer {secret}", "Accept": "*/*"}
        )
        with planted.transaction() as session:
            seen = session.scalar(
                text("SELECT count(*) FROM audit WHERE action = 'study.viewed' AND actor = :actor"),
                {"actor": f"token:walker {number}"},
            )
        assert seen == (1 if answer.status_code == 200 else 0), (route.path, answer.status_code)

import gc
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from service.cli import app
from service.store import Store
from service.store.tables import StudyRow
from service.study import PATIENT_CONFLICT, DeliveryStatus, State
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres

QUEUED = Seed(name="queued", state=State.QUEUED)
SCORED = Seed(name="scored", results={"sr": {"pacs": DeliveryStatus.UNDELIVERED}})


@pytest.fixture
def runner(store: Store, tmp_path: Path) -> CliRunner:
    with store.transaction() as session:
        plant(session, QUEUED, SCORED)
    return CliRunner(env={"VIGIL_DATABASE_URL": store.url, "VIGIL_DATA": str(tmp_path)})


def _json(runner: CliRunner, *arguments: str) -> dict[str, object]:
    done = runner.invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("order", "scores"), [(("park",), 1), (("cancel",), 1), (("prioritise", "stat"), 0)])
def test_an_order_says_what_it_changed_and_that_the_second_one_changed_nothing(
    runner: CliRunner, order: tuple[str, ...], scores: int
) -> None:
    name, *more = order

    first = _json(runner, "studies", name, QUEUED.key, *more)
    second = _json(runner, "studies", name, QUEUED.key, *more)

    assert first == {"changed": True, "scores": scores, "deliveries": 0}
    assert second == {"changed": False, "scores": 0, "deliveries": 0}


def test_what_was_given_up_is_listed_with_its_reason(runner: CliRunner) -> None:
    _json(runner, "studies", "cancel", QUEUED.key)

    listed = _json(runner, "studies", "list", "--failed")["failed"]

    assert isinstance(listed, list)
    assert {(letter["key"], letter["what"], letter["reason"]) for letter in listed} == {
        (QUEUED.key, "study", "cancelled"),
        (SCORED.key, "sr to pacs", "The destination does not answer."),
    }


@pytest.mark.parametrize("more", [(), ("--failed",)])
def test_a_key_is_whole_on_the_narrowest_terminal(runner: CliRunner, more: tuple[str, ...]) -> None:
    listed = runner.invoke(app, ["studies", "list", *more], env={"COLUMNS": "80"})

    assert SCORED.key in listed.stdout


def test_a_report_of_retention_leaves_no_connection_open(runner: CliRunner) -> None:
    assert runner.invoke(app, ["retention", "report"]).exit_code == 0

    gc.collect()  # a connection that nobody closed warns here, and warnings are errors


def test_a_study_is_shown_with_its_stages(runner: CliRunner) -> None:
    done = runner.invoke(app, ["studies", "show", SCORED.key])

    assert done.exit_code == 0
    assert f"{SCORED.key}: scored, percentile 50.0" in done.stdout
    assert "first to last instance" in done.stdout


def test_a_destination_that_nobody_knows_is_not_parked(runner: CliRunner) -> None:
    assert runner.invoke(app, ["peers", "park", "nobody"]).exit_code != 0
    assert _json(runner, "peers", "unpark", "nobody")["changed"] is False


def test_the_list_and_the_report_of_harm_follow_the_same_limit(runner: CliRunner, store: Store) -> None:
    now = datetime.now(UTC)
    waits = Seed(name="waits", received_at=now - timedelta(hours=3))
    later = Seed(name="later", received_at=now - timedelta(hours=2), seen_at=now - timedelta(hours=1))
    with store.transaction() as session:
        plant(session, waits, later)
    outcomes = []
    for limit_s in ("7200", "14400"):
        done = runner.invoke(
            app, ["studies", "harm", "--days", "2", "--json"], env={"VIGIL_LONGEST_UNREAD_S": limit_s}
        )
        rows = json.loads(
            runner.invoke(app, ["studies", "list", "--json"], env={"VIGIL_LONGEST_UNREAD_S": limit_s}).stdout
        )["rows"]
        overdue = {row["key"]: row["is_overdue"] for row in rows}
        outcomes.append((done.exit_code, json.loads(done.stdout)["delayed"], overdue[waits.key]))
    assert outcomes == [(1, 1, True), (0, 0, False)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"is_pending": True}, "more images arriving"),
        ({"flag": PATIENT_CONFLICT}, "patient_conflict"),
        ({"parked_at": datetime.now(UTC)}, None),  # nothing is to be scored: the number holds
    ],
)
def test_a_number_stands_beside_what_is_wrong_with_it(
    runner: CliRunner, store: Store, values: dict[str, object], said: str | None
) -> None:
    with store.transaction() as session:
        session.execute(update(StudyRow).where(StudyRow.key == SCORED.key).values(**values))

    listed = runner.invoke(app, ["studies", "list"], env={"COLUMNS": "200"}).stdout
    shown = runner.invoke(app, ["studies", "show", SCORED.key]).stdout

    for line in (next(line for line in listed.splitlines() if SCORED.key in line), shown):
        assert "50.0" in line
        assert said is None or f", {said}" in line


def test_a_score_that_is_missing_is_told(runner: CliRunner, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="bare", revisions=0))

    listed = runner.invoke(app, ["studies", "list"], env={"COLUMNS": "200"}).stdout

    assert "scored, no score stands behind it" in listed

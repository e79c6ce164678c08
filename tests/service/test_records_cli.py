import json
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from service.cli import app
from service.store import Store
from service.store.tables import InstanceRow
from service.study import State
from tests.seeds import MODEL_SHA256, Seed, plant

pytestmark = pytest.mark.postgres

SCORED, FAILED = Seed(name="scored"), Seed(name="failed", state=State.FAILED)


@pytest.fixture
def runner(store: Store, tmp_path: Path) -> CliRunner:
    with store.transaction() as session:
        plant(session, SCORED, FAILED)
        session.execute(update(InstanceRow).values(first_revision=1))
    return CliRunner(env={"VIGIL_DATABASE_URL": store.url, "VIGIL_DATA": str(tmp_path)})


def test_the_record_of_a_score_is_printed(runner: CliRunner) -> None:
    as_json = runner.invoke(app, ["studies", "record", SCORED.key, "--json"])
    as_text = runner.invoke(app, ["studies", "record", SCORED.key])

    found = json.loads(as_json.stdout)
    assert (found["model"]["sha256"], len(found["instances"])) == (MODEL_SHA256, 3)
    assert f"{SCORED.key}, revision 1: scored" in as_text.stdout
    assert MODEL_SHA256 in as_text.stdout


def test_a_failed_study_is_queued_again_by_a_replay(runner: CliRunner) -> None:
    done = runner.invoke(app, ["studies", "replay", FAILED.key, "--json"])

    assert (done.exit_code, json.loads(done.stdout)) == (0, {"scores": 1, "deliveries": 0, "why": None})


def test_a_score_whose_model_is_gone_is_not_said_to_be_the_same(runner: CliRunner) -> None:
    as_json = runner.invoke(app, ["studies", "replay", SCORED.key, "--json"])
    as_text = runner.invoke(app, ["studies", "replay", SCORED.key])

    assert (as_json.exit_code, as_text.exit_code) == (1, 1)
    (difference,) = json.loads(as_json.stdout)["differences"]
    assert difference["what"] == "model"
    assert as_text.stdout.startswith("not the same: 1 is on record")

"""What an operator decides about calibrations at the machine itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models.catalogue import active_artefact
from models.documents import CalibrationDocument, read_document, write_document
from service.cli import app
from service.store import Store
from service.study import Band, State
from tests.reference_documents import HERE, OLDER, document
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres

runner = CliRunner()
N = 20


@pytest.fixture
def vigil(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command on the test's database; return its JSON."""
    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    monkeypatch.setenv("VIGIL_DATA", str(tmp_path))
    monkeypatch.setenv("VIGIL_COMMISSION_STUDIES", str(N))

    def run(*arguments: str) -> Any:
        told = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert told.exit_code == 0, told.output
        return json.loads(told.stdout)

    return run


@pytest.fixture(scope="module")
def model() -> str:
    """Of the shipped model, which is in service where nobody says otherwise."""
    return active_artefact().sha256


def seed(number: int, model: str, **more: Any) -> Seed:
    return Seed(
        name=f"s{number}",
        **{
            "state": State.NOT_ASSESSABLE,
            "reason": "uncalibrated",
            "study_score": float(number),
            "group_key": (HERE, OLDER)[number % 2].key,
            "model_sha256": model,
        }
        | more,
    )


def test_a_document_is_proposed_accepted_and_taken_back(vigil: Any, model: str, tmp_path: Path) -> None:
    write_document(tmp_path / "a.json", document({HERE: 30}, model_sha256=model))
    number = str(vigil("calibrations", "propose", str(tmp_path / "a.json"), "--origin", "folder")["id"])

    assert vigil("calibrations", "accept", number, "--reason", "checked")["state"] == "accepted"
    shown = vigil("calibrations", "show", number)
    assert shown["calibration"]["decided_by"] == "operator"
    (tmp_path / "b.json").write_text(json.dumps(shown["document"]))
    assert read_document(tmp_path / "b.json") == read_document(tmp_path / "a.json")
    assert vigil("calibrations", "retire", number, "--reason", "too few") == {"in_force": None}
    listed = vigil("calibrations", "list")["calibrations"]
    assert [(one["state"], one["origin"]) for one in listed] == [("retired", "folder")]


def test_studies_that_came_and_were_scored_become_a_document(
    vigil: Any, store: Store, model: str, tmp_path: Path
) -> None:
    with store.transaction() as session:
        plant(
            session,
            *(seed(number, model) for number in range(3)),
            seed(3, model, state=State.SCORED, reason=None, p_value=0.5),
            seed(4, "b2" * 32),
        )
    path = tmp_path / "received.json"

    told = vigil(
        *("models", "calibrate", "--received", "--out", str(path)),
        *("--author", "ada", "--reason", "first weeks", "--first", "3"),
    )

    assert told["groups"] == [{"group": HERE.label, "n": 2}, {"group": OLDER.label, "n": 1}]
    found: CalibrationDocument = read_document(path)
    assert found.model_sha256 == model
    assert [stratum.scores for stratum in found.strata] == [(0.0, 2.0), (1.0,)]


def test_a_scanner_is_commissioned_from_the_command_line(vigil: Any, store: Store, model: str) -> None:
    with store.transaction() as session:
        plant(session, *(seed(number, model) for number in range(N)))
    assert vigil("studies", "list")["rows"][0]["band"] == Band.UNCALIBRATED

    proposed = vigil("calibrations", "look")["proposed"]
    assert vigil("calibrations", "rescore") == {
        "queued": N,
        "left": 0,
    }  # by the model itself

    assert proposed["origin"] == "commissioning"
    assert vigil("calibrations", "refuse", str(proposed["id"]), "--reason", "no")["state"] == "refused"
    assert vigil("calibrations", "look") == {"proposed": None}

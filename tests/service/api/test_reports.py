import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.store import Store, feedback
from service.store.feedback import Opinion
from service.study import Verdict
from tests.seeds import MORNING, Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

SINCE = MORNING.date().isoformat()


@pytest.fixture
def judged(client: TestClient, store: Store) -> TestClient:
    """Client on one finding among two studies."""
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.01), Seed(name="b", p_value=0.9))
        feedback.give(
            session, study_key("a"), Opinion(verdict=Verdict.CONFIRMED_FINDING, note="Jane"), actor="ada"
        )
    return client


def test_the_report_says_what_its_numbers_mean_and_names_nobody(judged: TestClient) -> None:
    answer = judged.get("/api/v1/reports/feedback", params={"since": f"{SINCE}T00:00:00Z"})
    body = answer.json()
    assert (answer.status_code, body["studies"], body["judged"]) == (200, 2, 1)
    assert body["overall"]["findings"] == {
        "found": 1,
        "n": 1,
        "share": 1.0,
        "low": pytest.approx(0.2065, abs=1e-4),
        "high": 1.0,
        "is_small": True,
    }
    assert "diagnosis" in body["disclaimer"]
    assert "verification bias" in body["definitions"]["sensitivity"]
    assert not {"ada", "Jane"} & set(answer.text.split('"'))
    assert judged.get("/api/v1/reports/feedback", params={"model": "x"}).status_code == 422
    # A number would be read as seconds since 1970: the report of a slip looked like one of all years.
    assert judged.get("/api/v1/reports/feedback", params={"since": "0.98"}).status_code == 422


def test_the_page_shows_empty_rows_as_empty(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.01))
    text = client.get("/reports", headers={"Accept": "text/html"}).text
    assert "none counted" in text
    assert "100 %" not in text.replace("0 to 100 %", "")  # nobody judged anything: no share at all
    assert 'href="/reports"' in text


def test_the_command_prints_the_same_report(
    judged: TestClient,  # noqa: ARG001 - its rows
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    monkeypatch.setenv("VIGIL_DATA", str(tmp_path))
    runner = CliRunner()
    done = runner.invoke(app, ["feedback", "report", "--since", SINCE, "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["overall"]["findings"]["found"] == 1
    people = runner.invoke(app, ["feedback", "report", "--since", SINCE], catch_exceptions=False)
    assert "Predictive value" in people.stdout

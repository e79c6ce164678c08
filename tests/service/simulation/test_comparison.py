import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli import app
from service.errors import TriageError
from service.simulation.comparison import Comparison, compare
from service.simulation.studies import Department, Scores

BUSY = Department(
    per_hour=11,
    swing=0.0,
    reading_min=10,
    readers=2,
    prevalence=0.1,
    stat_share=0.02,
    unjudged_share=0.02,
    scoring_min=2,
    longest_h=24,
)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(BUSY, Scores.of_auroc(0.8), days=10, runs=6, seed=1)


def test_abnormal_studies_are_read_sooner_and_no_sooner_than_an_oracle_could(found: Comparison) -> None:
    mean = {(row.order, row.kind): row.mean_h for row in found.rows}
    saved = {(row.order, row.kind): row.saved_h for row in found.rows}

    oracle, vigil, plain = (
        mean[name, "abnormal"].value for name in ("severity-oracle", "vigil", "first-come")
    )
    assert oracle < vigil < plain
    assert saved["vigil", "abnormal"].low > 0
    assert saved["vigil", "normal"].value < 0
    assert saved["first-come", "normal"].value == 0


def test_every_figure_has_an_interval_and_the_worst_wait_is_told(found: Comparison) -> None:
    assert {row.order for row in found.rows} == {"first-come", "severity-oracle", "vigil"}
    for row in found.rows:
        for figure in (row.mean_h, row.median_h, row.late_h):
            assert figure.low <= figure.value <= figure.high
        assert row.worst_h >= row.late_h.value >= row.median_h.value


def test_the_same_seed_gives_the_same_numbers(found: Comparison) -> None:
    assert compare(BUSY, Scores.of_auroc(0.8), days=10, runs=6, seed=1) == found


def test_arrivals_swing_over_the_day_and_keep_their_mean() -> None:
    day = replace(BUSY, swing=1.0).draw(200, Scores.of_auroc(0.8), np.random.default_rng(0))
    hour = day.arrival_h % 24

    assert len(day.arrival_h) == pytest.approx(200 * 24 * 11, rel=0.03)
    assert ((hour > 15) & (hour < 17)).sum() > 20 * ((hour > 3) & (hour < 5)).sum()


def test_shares_are_as_asked_for_and_normals_have_uniform_percentiles() -> None:
    day = replace(BUSY, prevalence=0.3).draw(300, Scores.of_auroc(0.8), np.random.default_rng(0))

    assert day.is_abnormal.mean() == pytest.approx(0.3, abs=0.01)
    assert np.isnan(day.p_value).mean() == pytest.approx(0.02, abs=0.005)
    normal = day.p_value[~day.is_abnormal & ~np.isnan(day.p_value)]
    assert (normal <= 0.1).mean() == pytest.approx(0.1, abs=0.01)


def test_scores_of_an_assumed_model_have_its_auroc() -> None:
    assert Scores.of_auroc(0.83).auroc == pytest.approx(0.83, abs=0.002)


@pytest.mark.parametrize("value", [0.3, 1.0])
def test_an_impossible_auroc_is_refused(value: float) -> None:
    with pytest.raises(TriageError, match="--auroc"):
        Scores.of_auroc(value)


def evaluation(folder: Path, content: object) -> Path:
    path = folder / "evaluation.json"
    path.write_text(json.dumps(content))
    return path


def test_scores_are_taken_from_an_evaluation(tmp_path: Path) -> None:
    table = {
        "artefact": "m-1 seed 1",
        "split": "test",
        "finding": "",
        "labels": [0, 0, 1, 1],
        "scores": [1, 3, 2, 4],
    }
    other = {**table, "split": "other", "labels": [0] * 4}
    bleeding = {**table, "finding": "bleeding", "scores": [1, 2, 3, 4]}
    path = evaluation(tmp_path, {"data": "head-ct", "scores": [other, table, bleeding]})

    scores = Scores.of_evaluation(path)

    assert scores.source == "head-ct, m-1 seed 1, test"
    assert (scores.normal.tolist(), scores.abnormal.tolist()) == ([1, 3], [2, 4])
    assert scores.auroc == 0.75
    assert Scores.of_evaluation(path, finding="bleeding").auroc == 1.0
    with pytest.raises(TriageError, match="--split"):
        Scores.of_evaluation(path, "other")


@pytest.mark.parametrize("content", [[], {}, {"scores": [{}]}, {"scores": 3}])
def test_a_file_that_is_no_evaluation_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(TriageError, match=r"evaluation\.json"):
        Scores.of_evaluation(evaluation(tmp_path, content))


def test_the_command_prints_one_document() -> None:
    told = CliRunner().invoke(
        app, ["simulate", "--json", "--days", "3", "--runs", "3", "--prevalence", "0.2"]
    )

    document = json.loads(told.stdout)
    assert told.exit_code == 0
    assert document["department"]["prevalence"] == 0.2
    assert document["load"] == pytest.approx(10 * 10 / 60 / 2)
    assert len(document["rows"]) == 9


def test_the_command_prints_a_table_and_warns_of_too_few_readers() -> None:
    told = CliRunner().invoke(
        app, ["simulate", "--days", "2", "--runs", "2", "--per-hour", "30"], env={"COLUMNS": "200"}
    )

    assert told.exit_code == 0
    assert "severity-oracle" in told.output
    assert "grows" in told.output

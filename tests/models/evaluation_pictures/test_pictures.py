import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.catalogue import active_artefact
from models.errors import ArtefactError
from models.evaluation.pictures import evaluate_pictures, summarise_seeds, write_picture_report
from models.evaluation.rows import Row
from models.evaluation.synthetic import Sweeps

QUICK = Sweeps(studies=1)
FIGURES = ("roc-0", "precision-recall-0", "scores-0-0", "intensity-0", "radius-0", "cases-0")


@pytest.fixture
def result(bright_artefact: Callable[[int], Path], lesion_folder: Path) -> dict[str, Any]:
    paths = [bright_artefact(0), bright_artefact(1)]
    return evaluate_pictures(paths, lesion_folder, 3, draws=20, amount=QUICK)


def _value(result: dict[str, Any], artefact: str, metric: str, finding: str = "square") -> float:
    found = [
        row["value"]
        for row in result["rows"]
        if (row["artefact"], row["metric"], row["finding"]) == (artefact, metric, finding)
    ]
    assert len(found) == 1
    return float(found[0])


def test_result_has_the_agreed_keys_and_survives_json(result: dict[str, Any]) -> None:
    assert {"data", "artefact", "model_hash", "seed", "rows"} <= set(result)
    assert (result["data"], result["seed"], result["seeds"]) == ("heads", 3, [0, 1])
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    keys = {"artefact", "split", "finding", "metric", "value", "low", "high", "n"}
    assert all(set(row) == keys for row in result["rows"])
    assert {row["split"] for row in result["rows"]} == {"val"}


def test_a_white_square_is_found_by_brightness(result: dict[str, Any]) -> None:
    model = "bright-0.1.0 seed 0"

    assert _value(result, model, "image_auroc") == 1
    assert _value(result, model, "prevalence") == 0.5
    assert _value(result, model, "pixel_ap") > 0.7
    assert _value(result, "no model", "image_auroc:constant") == 0.5
    assert _value(result, "no model", "pixel_ap:constant") == pytest.approx(2 * 64 / (4 * 48 * 40))


def test_reconstructions_are_compared_with_what_was_shown(result: dict[str, Any]) -> None:
    model = "bright-0.1.0 seed 0"

    # Half of the picture is the residual; the square is white but for its resized edge.
    assert 0.1 < _value(result, model, "l1_normal_pixels", "") < 0.5
    assert 0.4 < _value(result, model, "l1_abnormal_pixels", "") <= 0.5
    assert 0 < _value(result, model, "ssim_normal", "") < 1
    assert 0 < _value(result, model, "chi_squared_residual_distance", "") <= 2


def test_seeds_that_agree_have_no_spread(result: dict[str, Any]) -> None:
    assert _value(result, "mean", "pixel_ap") == _value(result, "bright-0.1.0 seed 1", "pixel_ap")
    assert _value(result, "spread", "pixel_ap") == 0


def test_mean_and_spread_are_those_of_the_seeds() -> None:
    rows = [
        Row(artefact=f"m seed {i}", split="val", finding="f", metric="x", value=v, low=None, high=None, n=9)
        for i, v in enumerate((0.7, 0.8, 0.9))
    ]
    mean, spread = summarise_seeds(rows)

    assert (mean.artefact, mean.low, mean.high) == ("mean", 0.7, 0.9)
    assert mean.value == pytest.approx(0.8)
    assert spread.value == pytest.approx(np.std([0.7, 0.8, 0.9], ddof=1))
    assert summarise_seeds(rows[:1]) == []


def test_same_seed_same_rows(
    bright_artefact: Callable[[int], Path], lesion_folder: Path, result: dict[str, Any]
) -> None:
    again = evaluate_pictures([bright_artefact(7)], lesion_folder, 3, draws=20, amount=QUICK)

    def rows(found: dict[str, Any], name: str) -> list[Any]:
        own = [row for row in found["rows"] if row["artefact"] == name]
        return [{**row, "artefact": ""} for row in own if not row["metric"].startswith("seconds")]

    assert rows(again, "bright-0.1.0 seed 7") == rows(result, "bright-0.1.0 seed 0")


def test_nobody_is_named_in_a_result_or_its_report(
    result: dict[str, Any], lesion_folder: Path, tmp_path: Path
) -> None:
    report = write_picture_report(result, tmp_path / "report").read_text(encoding="utf-8")
    rows = json.dumps({key: value for key, value in result.items() if key != "cases"})

    for picture in lesion_folder.glob("*.png"):
        assert picture.name not in rows + report
    assert '"p8"' not in rows


def test_report_has_tables_and_every_figure_it_shows(result: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "report"
    report = write_picture_report(result, folder).read_text(encoding="utf-8")

    assert json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) == result
    for line in (
        "| constant | 0.500",
        "| bright-0.1.0 seed 0 | 1.000",
        "| mean of 2 (spread) | 1.000 (0.000)",
    ):
        assert line in report
    assert "## val: synthetic anomalies in its normals, not disease" in report
    assert {path.stem for path in folder.glob("*.png")} == set(FIGURES)
    for name in FIGURES:
        assert f"]({name}.png)" in report


def test_figures_are_the_same_bytes_for_the_same_result(result: dict[str, Any], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        write_picture_report(result, folder)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_a_model_of_volumes_is_refused(lesion_folder: Path) -> None:
    with pytest.raises(ArtefactError, match="a model of pictures is needed"):
        evaluate_pictures([active_artefact().path], lesion_folder, 0)

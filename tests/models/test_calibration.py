import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from models.calibration import Calibration, conformal_p, find_bands, read_calibration
from models.errors import ArtefactError

CONTENT = {
    "format": 1,
    "group": "test group",
    "calibrated_on": date(2026, 1, 2),
    "scores": (1.0, 2.0, 3.0),
    "levels": {"a": 1.0},
    "display_max": 3.0,
    "bands": (0.3, 0.5, 0.7),
    "band_rule": "by hand",
}


@pytest.mark.parametrize(
    ("score", "p"), [(0.5, 4 / 4), (1.0, 4 / 4), (1.5, 3 / 4), (3.0, 2 / 4), (3.1, 1 / 4), (1e9, 1 / 4)]
)
def test_p_counts_reference_scores_at_or_above(score: float, p: float) -> None:
    assert Calibration.model_validate(CONTENT).p_value(score) == pytest.approx(p)


@pytest.mark.parametrize("n", [6, 19, 99])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5])
def test_normals_fall_below_alpha_at_most_alpha_of_the_time(n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    trials = 4000
    p_values = [conformal_p(rng.normal(size=n).tolist(), rng.normal()) for _ in range(trials)]
    flagged = float(np.mean(np.array(p_values) <= alpha))

    # Exact level of the discrete p, plus three standard errors of the simulation.
    level = np.floor(alpha * (n + 1)) / (n + 1)
    error = 3 * np.sqrt(max(level * (1 - level), 1e-4) / trials)
    assert flagged <= alpha + error
    assert abs(flagged - level) <= error + 1e-3


def test_group_below_fifty_is_marked_small() -> None:
    assert Calibration.model_validate(CONTENT).is_small
    many = CONTENT | {"scores": tuple(float(i) for i in range(50))}
    assert not Calibration.model_validate(many).is_small


@pytest.mark.parametrize(
    "change",
    [
        {"scores": ()},
        {"scores": (2.0, 1.0)},
        {"bands": (0.5, 0.3, 0.7)},
        {"bands": (0.0, 0.3, 0.7)},
        {"bands": (0.1, 0.3, 1.1)},
        {"levels": {"a": 0.0}},
        {"display_max": 0.0},
        {"display_max": float("inf")},
        {"display_max": float("nan")},
        {"levels": {"a": float("inf")}},
        {"scores": (1.0, float("nan"))},
        {"scores": (1.0, float("inf"))},
    ],
)
def test_impossible_calibration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Calibration.model_validate(CONTENT | change)


@pytest.mark.parametrize("written", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("change", [{"scores": [1.0, 0]}, {"levels": {"a": 0}}, {"display_max": 0}])
def test_a_file_with_a_value_that_is_no_number_is_refused(
    tmp_path: Path, change: dict[str, object], written: str
) -> None:
    path = tmp_path / "calibration.json"
    text = json.dumps(json.loads(Calibration.model_validate(CONTENT).model_dump_json()) | change)
    path.write_text(re.sub(r"\b0(?=[\]}])|(?<=display_max\": )0", written, text))
    assert written in path.read_text()

    with pytest.raises(ArtefactError, match="not a valid calibration"):
        read_calibration(path)


def test_bands_start_where_normals_end() -> None:
    display_max, bands, rule = find_bands([1.0, 2.0, 1.5])

    assert np.array(bands) * display_max == pytest.approx([2.0, 3.0, 4.0], rel=1e-5)
    assert "3 normals" in rule


def test_missing_or_broken_calibration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    with pytest.raises(ArtefactError, match=r"calibration\.json"):
        read_calibration(path)
    path.write_text('{"format": 1}')
    with pytest.raises(ArtefactError, match=r"calibration\.json"):
        read_calibration(path)

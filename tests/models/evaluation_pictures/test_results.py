import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import RecordError
from models.evaluation.pictures import evaluate_pictures
from models.evaluation.results import PAGE, RESULTS, Result, add_result, read_results, results_page
from models.evaluation.synthetic import Sweeps
from models.evaluation.volume_results import add_volume_result, read_volume_results, volume_sections

REFERENCE = [{"name": "CAE, seed 004", "finding": "square", "values": {"image_auroc": "0.78 ± 0.09"}}]


def _row(metric: str, value: float, artefact: str = "m seed 0") -> dict[str, Any]:
    where = {"split": "val", "finding": "square", "low": None, "high": None, "n": 10}
    return {"artefact": artefact, "metric": metric, "value": value, **where}


def _result(record: str, family: str, value: float, synthetic: float = 0.5) -> Result:
    rows = (
        _row("image_auroc:constant", 0.5, "no model"),
        _row("image_auroc", value),
        _row("synthetic_ap", synthetic) | {"finding": "local: blob"},
    )
    return Result(
        command=f"vigil models evaluate {record}",
        data="heads",
        record=record,
        family=family,
        seeds=(0,),
        model_hash="0",
        reference=REFERENCE,  # type: ignore[arg-type]
        differs="Other heads.",
        rows=rows,
    )


def test_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == results_page(read_results(), read_volume_results(RESULTS))


def test_every_committed_result_can_be_reprinted_and_holds_no_picture() -> None:
    for path in RESULTS.glob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["command"].startswith(("vigil models", "python -m"))
        assert not {"scores", "cases"} & set(document)


def test_table_has_references_baselines_and_of_each_family_what_finds_synthetic_anomalies_best() -> None:
    """Of two autoencoders the one that the labels favour is not shown."""
    results = [
        _result("a1", "autoencoder", 0.95, synthetic=0.4),
        _result("a2", "autoencoder", 0.9, synthetic=0.6),
        _result("v1", "vae", 0.7),
    ]
    page = results_page(results)
    table = page.partition("### Records")[0]

    assert "| reference: CAE, seed 004 | 0.78 ± 0.09 |" in table
    assert table.count("CAE, seed 004") == 1
    assert "| constant | 0.500 |" in table
    assert "| autoencoder: a2, one seed | 0.900 |" in table
    assert "| vae: v1, one seed | 0.700 |" in table
    assert "a1" not in table
    assert "- Other heads." in page
    assert "| a1 | autoencoder | 0 | 0.400 | 0.950 | `vigil models evaluate a1` |" in page


def test_several_seeds_are_shown_as_mean_and_spread() -> None:
    rows = (
        _row("image_auroc", 0.8),
        _row("image_auroc", 0.9, "m seed 1"),
        _row("image_auroc", 0.85, "mean"),
        _row("image_auroc", 0.0707, "spread"),
    )
    several = _result("a1", "autoencoder", 0).model_copy(update={"rows": rows, "seeds": (0, 1)})

    assert several.figure == 0.85
    assert "| autoencoder: a1, mean of 2 (spread) | 0.850 (0.071) |" in results_page([several])


def test_an_evaluation_is_added_without_people_and_read_back(
    bright_artefact: Callable[[int], Path], lesion_folder: Path, tmp_path: Path
) -> None:
    amount = Sweeps(studies=1)
    evaluation = evaluate_pictures([bright_artefact(0)], lesion_folder, 0, draws=10, amount=amount)
    (tmp_path / "e.json").write_text(json.dumps(evaluation), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps(REFERENCE), encoding="utf-8")
    folder = tmp_path / "results"

    path = add_result(tmp_path / "e.json", command="vigil x", reference=tmp_path / "r.json", folder=folder)

    (found,) = read_results(folder)
    assert path.name == "heads-b1-intensity.json"
    assert (found.record, found.seeds, found.figure) == ("b1-intensity", (0,), 1)
    assert not any(row.finding.startswith("intensity=") for row in found.measured)
    assert len(path.read_text(encoding="utf-8").splitlines()) > len(found.rows)  # One row a line.
    page = results_page([found])
    assert "### val: square" in page
    assert "| local: sphere |" in page


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"command": "y"}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"x\.json"):
        read_results(tmp_path)


def test_volumes_pool_large_lesions_over_seeds(tmp_path: Path) -> None:
    for seed, value in ((1, 0.8), (2, 0.9)):
        rows = [
            {"artefact": "a", "split": "test", "finding": finding, "metric": "sample_auroc", "value": figure}
            | {"low": None, "high": None, "n": 6}
            for finding, figure in (
                ("synthetic 10 mm -2 SD", 0.1),
                ("synthetic 15 mm -2 SD", value),
                ("synthetic 20 mm +1 SD", value - 0.2),
            )
        ]
        document = {"data": "heads", "model_hash": "ab", "rows": rows}
        add_volume_result(document, command="vigil models train x", record="x", seed=seed, folder=tmp_path)

    (section,) = volume_sections(read_volume_results(tmp_path))

    assert "| at least 15 mm, both | 0.750 (0.071) |" in section
    assert "| at least 15 mm, dark | 0.850 (0.071) |" in section
    assert "| synthetic 10 mm -2 SD | 0.100 (0.000) |" in section

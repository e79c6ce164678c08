import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from models.evaluation.plots import draw_bathtub, draw_histogram, draw_roc


def _ink(path: Path) -> float:
    """Share of pixels that are not white."""
    with Image.open(path) as image:
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_curves_and_histograms_are_drawn(tmp_path: Path) -> None:
    row = {
        "artefact": "m",
        "split": "val",
        "finding": "mass",
        "labels": [0, 0, 1, 0, 1],
        "scores": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
    draw_roc([row, {**row, "finding": "other"}], tmp_path / "roc.png")
    draw_histogram(row, tmp_path / "scores.png")
    draw_histogram({**row, "scores": [0.0] * 5}, tmp_path / "flat.png")

    for name in ("roc", "scores", "flat"):
        assert 0.01 < _ink(tmp_path / f"{name}.png") < 0.6


def test_a_sweep_is_drawn_in_the_order_of_its_values(tmp_path: Path) -> None:
    rows = [
        {"metric": "synthetic_ap", "finding": f"intensity={value}", "value": abs(value - 0.5)}
        for value in (1.0, 0.0, 0.5)
    ]
    draw_bathtub(rows, "intensity", tmp_path / "a.png")
    draw_bathtub(rows[::-1], "intensity", tmp_path / "b.png")

    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_neither_matplotlib_nor_scikit_learn_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, models.evaluation.pictures, models.evaluation.results; "
        "sys.exit(bool({'matplotlib', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

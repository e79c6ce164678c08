"""Small data folders of every layout, written by the tests themselves."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def head(rows: int = 48, columns: int = 40, *, seed: int = 0) -> NDArray[np.uint8]:
    """A bright ellipse with some texture on black."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:rows, :columns]
    inside = ((row - rows / 2) / (0.42 * rows)) ** 2 + ((column - columns / 2) / (0.4 * columns)) ** 2 <= 1
    return np.where(inside, rng.integers(90, 180, (rows, columns)), 0).astype(np.uint8)


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def manifest_rows() -> list[dict[str, object]]:
    """Six normal patients for training, one normal and one abnormal patient to score."""
    rows: list[dict[str, object]] = [
        {"file": f"{i}.png", "patient": f"p{i}", "split": "train", "label": 0, "finding": "", "age": 40 + i}
        for i in range(6)
    ]
    rows.append({"file": "6.png", "patient": "p6", "split": "val", "label": 0, "finding": "", "age": ""})
    rows.append({"file": "7.png", "patient": "p7", "split": "val", "label": 1, "finding": "mass", "age": 70})
    return rows

"""Tables on disk, written row by row: CSV always, Parquet where pyarrow is installed."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run; a modality is a stranger's text
TOGETHER = 1000  # rows of one Parquet batch

# In the order of the columns. Parquet needs types before the first row, which may be empty of values.
RANKED: Mapping[str, str] = {
    "rank": "int64",
    "study": "string",
    "outcome": "string",
    "reason": "string",
    "p_value": "float64",
    "percentile": "float64",
    "q_value": "float64",
    "on_list": "bool",
    "study_score": "float64",
    "modality": "string",
    "reference_group": "string",
    "reference_n": "int64",
    "regions": "int64",
    "strongest_volume_mm3": "float64",
    "strongest_diameter_mm": "float64",
    "strongest_side": "string",
    "model": "string",
    "model_version": "string",
    "model_sha256": "string",
    "calibration_sha256": "string",
}
FINDINGS: Mapping[str, str] = {
    "rank": "int64",
    "study": "string",
    "number": "int64",
    "volume_mm3": "float64",
    "diameter_mm": "float64",
    "peak": "float64",
    "mean": "float64",
    "x_mm": "float64",
    "y_mm": "float64",
    "z_mm": "float64",
    "side": "string",
    "slice": "int64",
}


def has_parquet() -> bool:
    """Whether Parquet can be written here."""
    return find_spec("pyarrow") is not None


class Table:
    """Writes the rows of one table."""

    def __init__(self, stack: ExitStack, path: Path, columns: Mapping[str, str]) -> None:
        file = stack.enter_context(path.with_suffix(".csv").open("w", encoding="utf-8", newline=""))
        self._csv = csv.DictWriter(file, list(columns), lineterminator="\n")
        self._csv.writeheader()
        self._waiting: list[Mapping[str, object]] = []
        self._parquet: Any = None
        self._schema: Any = None
        if has_parquet():
            import pyarrow as pa  # an extra, and 0.3 s to import
            from pyarrow import parquet

            self._schema = pa.schema([(name, kind) for name, kind in columns.items()])
            self._parquet = stack.enter_context(
                parquet.ParquetWriter(path.with_suffix(".parquet"), self._schema)
            )
            stack.callback(self._write)

    def add(self, row: Mapping[str, object]) -> None:
        """Write one row."""
        self._csv.writerow({name: _said(value) for name, value in row.items()})
        if self._parquet is not None:
            self._waiting.append(row)
            if len(self._waiting) >= TOGETHER:
                self._write()

    def _write(self) -> None:
        if self._waiting:
            import pyarrow as pa

            self._parquet.write_table(pa.Table.from_pylist(self._waiting, self._schema))
            self._waiting.clear()


@contextmanager
def tables(*wanted: tuple[Path, Mapping[str, str]]) -> Iterator[Sequence[Table]]:
    """Tables to write; whole when the block ends.

    Parameters
    ----------
    *wanted : tuple of Path and mapping
        Path without suffix, and the columns with their types.
    """
    with ExitStack() as stack:
        yield [Table(stack, path, columns) for path, columns in wanted]


def _said(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value

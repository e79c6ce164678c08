"""The result of an evaluation as a page to read, and from its page back into the model card."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.card import refresh_card
from models.evaluation.rows import Row, markdown_table


def rows_of(result: Mapping[str, Any]) -> list[Row]:
    """The rows of an evaluation's JSON document."""
    return [Row(**row) for row in result["rows"]]


def write_report(result: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.md`` with one table an artefact.

    Parameters
    ----------
    result : dict
        What ``models.evaluation.protocol.evaluate`` returned.
    folder : Path
        Made if it is not there.

    Returns
    -------
    Path
        The written file.
    """
    rows = rows_of(result)
    lines = [
        f"# {result['artefact']} on {result['data']}",
        "",
        f"Model {result['model_hash']}, seed of lesions and bootstrap {result['seed']}.",
        "In brackets the 95 % interval of a bootstrap by person.",
    ]
    for artefact in dict.fromkeys(row.artefact for row in rows):
        lines += ["", f"## {artefact}", "", markdown_table([row for row in rows if row.artefact == artefact])]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Put evaluations into a model card: ``python -m models.evaluation.report ARTEFACT JSON... ``.

    The first document is of the artefact itself; ``--spread`` names documents of other seeds.
    """
    parser = argparse.ArgumentParser(prog="models.evaluation.report", description=main.__doc__)
    parser.add_argument("artefact", type=Path)
    parser.add_argument("evaluation", type=Path, nargs="+")
    parser.add_argument("--spread", type=Path, nargs="*", default=[])
    chosen = parser.parse_args(arguments)
    results = [_read(path) for path in chosen.evaluation]
    rows = [row for result in results for row in rows_of(result)]
    spread = [row for path in chosen.spread for row in rows_of(_read(path))]
    data = [result["data"] for result in results]
    refresh_card(chosen.artefact, rows, [*rows, *spread] if spread else [], data)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

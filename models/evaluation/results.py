"""``models/RESULTS.md`` from the committed evaluations in ``models/results``.

``python -m models.evaluation.results`` writes the page; ``... add EVALUATION --command TEXT`` puts what
``vigil models evaluate --json`` wrote among the committed ones, without scores and pictures of people.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import RecordError
from models.evaluation.picture_tables import (
    MEAN,
    SHORT_COLUMNS,
    SWEPT,
    SYNTHETIC,
    Line,
    baseline_lines,
    model_lines,
    places_of,
    synthetic_table,
    table,
)
from models.evaluation.rows import Row
from models.evaluation.volume_results import (
    VolumeResult,
    add_volume_result,
    read_volume_results,
    volume_sections,
)

MODELS = Path(__file__).resolve().parent.parent
RESULTS = MODELS / "results"
PAGE = MODELS / "RESULTS.md"
RANKING = "synthetic_ap"  # Ranks records; labels never choose.
PRIMARY = ("image_auroc", "slice_auroc", "pixel_ap")  # The first that a result has is its figure on the data.
DIGITS = 5
HEAD = """# Results

Made by `python -m models.evaluation.results` from the JSON files in `models/results`; not edited by hand.

Numbers without brackets are of one seed; in brackets stands the standard deviation over seeds, or the
95 % interval by patient of what needs no model. *Optimistic* figures choose a threshold by labels. Of
each family the record that finds synthetic anomalies best is shown, not the one that the labels favour,
and every record of several seeds; all are listed below each table with both figures. Rows that need no
model have the preparation of the first record."""


class Reference(BaseModel):
    """Numbers somebody else reported.

    Attributes
    ----------
    name : str
        Method and source.
    finding : str
        Row they belong to; empty for all.
    values : dict of str to str
        As printed there, by metric.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    finding: str = ""
    values: dict[str, str]


class Result(BaseModel):
    """One committed evaluation: one record, one or more seeds, one data folder.

    Attributes
    ----------
    command : str
        Reprints it.
    data, task : str
    record, family : str
        The method's id and family.
    seeds : tuple of int
        Of the trainings.
    model_hash : str
    reference : tuple of Reference
    differs : str
        What is not as in the references.
    rows : tuple of dict
        See ``models.evaluation.rows.Row``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    data: str
    task: str | None = None
    record: str
    family: str
    seeds: tuple[int, ...]
    model_hash: str
    reference: tuple[Reference, ...] = ()
    differs: str = ""
    rows: tuple[dict[str, Any], ...]

    @property
    def measured(self) -> list[Row]:
        """The rows."""
        return [Row(**row) for row in self.rows]

    @property
    def place(self) -> str:
        """Data folder, and task where there is one."""
        return f"{self.data}, {self.task}" if self.task else self.data

    @property
    def rank(self) -> float:
        """Mean average precision over the kinds of synthetic anomalies; nothing labelled goes in."""
        return self._mean(RANKING)

    @property
    def figure(self) -> float:
        """Mean over findings of the primary metric."""
        return next((value for metric in PRIMARY if (value := self._mean(metric)) > float("-inf")), 0.0)

    def _mean(self, metric: str) -> float:
        """Over findings, of the mean over seeds."""
        rows = self.measured
        several = any(row.artefact == MEAN for row in rows)
        values = [row.value for row in rows if row.metric == metric and (row.artefact == MEAN) == several]
        return sum(values) / len(values) if values else float("-inf")


def read_results(folder: Path = RESULTS) -> list[Result]:
    """All committed evaluations, in the order of their file names.

    Raises
    ------
    RecordError
        If a file is not one; names the file and field.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(Result.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise RecordError(f"{path.name}: {error}") from error
    return found


def results_page(results: Sequence[Result], volumes: Sequence[VolumeResult] = ()) -> str:
    """The whole page: a section a data folder and task, then those of whole volumes."""
    places = sorted({result.place for result in results})
    sections = [_section(place, [result for result in results if result.place == place]) for place in places]
    return "\n\n".join([HEAD, *sections, *volume_sections(volumes)]) + "\n"


def add_result(
    evaluation: Path,
    *,
    command: str,
    differs: str = "",
    reference: Path | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Put an evaluation among the committed ones, or in the place of the earlier one of the same record.

    Parameters
    ----------
    evaluation : Path
        JSON of ``vigil models evaluate``. Sweeps, scores and pictures are left out.
    command : str
        What reprints it.
    differs : str
        What is not as in the references.
    reference : Path, optional
        JSON list of references (see `Reference`).
    folder : Path

    Raises
    ------
    RecordError
        If the evaluation is of several records.
    """
    document = json.loads(evaluation.read_text(encoding="utf-8"))
    if ", " in document["method"]:
        raise RecordError(f"{evaluation.name}: holds several records; evaluate one at a time")
    record = yaml.safe_load((MODELS / "records" / f"{document['method']}.yaml").read_text(encoding="utf-8"))
    rows = [_rounded(row) for row in document["rows"] if not row["finding"].startswith(SWEPT)]
    result = Result(
        command=command,
        data=document["data"],
        task=document["task"],
        record=document["method"],
        family=record["family"],
        seeds=tuple(document["seeds"]),
        model_hash=document["model_hash"],
        reference=json.loads(reference.read_text(encoding="utf-8")) if reference else (),
        differs=differs,
        rows=tuple(rows),
    )
    parts = [result.data, *([result.task] if result.task else []), result.record]
    path = folder / f"{'-'.join(parts)}.json"
    folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps(result.model_dump(exclude={"rows"}), indent=1)
    # One row a line: a changed number is a changed line.
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(f'{head[:-2]},\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
    return path


def _section(place: str, results: Sequence[Result]) -> str:
    ranked = sorted(results, key=lambda result: (-result.rank, result.record))
    best: dict[str, Result] = {}
    for result in ranked:
        best.setdefault(result.family, result)
    shown = [result for result in ranked if result is best[result.family] or len(result.seeds) > 1]
    top = ranked[0]
    text = [f"## {place}"]
    for (split, finding), rows in places_of(top.measured).items():
        lines = [*_reference_lines(results, finding), *baseline_lines(rows)]
        for result in shown:
            own = places_of(result.measured).get((split, finding), [])
            lines += model_lines(own, title=f"{result.family}: {result.record}")
        counts = [row for row in rows if row.metric in {"prevalence", "pixel_prevalence"}]
        said = "; ".join(f"{row.metric.replace('_', ' ')} {row.value:.3f}, n = {row.n}" for row in counts[:1])
        text += [f"### {split}: {finding or 'all'}", *([said[0].upper() + said[1:] + "."] if said else [])]
        text.append(table(lines, SHORT_COLUMNS))
    if any(row.finding.startswith(SYNTHETIC) for row in top.measured):
        text += [f"### Synthetic anomalies, not disease: {top.record}", synthetic_table(top.measured)]
    differs = list(dict.fromkeys(result.differs for result in ranked if result.differs))
    if differs:
        text += ["### What differs from the references", "\n".join(f"- {line}" for line in differs)]
    text += ["### Records and commands", _record_table(ranked)]
    return "\n\n".join(text)


def _reference_lines(results: Sequence[Result], finding: str) -> list[Line]:
    known = dict.fromkeys(
        (entry.name, entry.finding, tuple(entry.values.items()))
        for result in results
        for entry in result.reference
    )
    return [
        Line(title=f"reference: {name}", values=dict(values))
        for name, of, values in known
        if of in {"", finding}
    ]


def _record_table(ranked: Sequence[Result]) -> str:
    lines = [
        "| record | family | seeds | synthetic AP | figure on the data | command |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {result.record} | {result.family} | {', '.join(str(seed) for seed in result.seeds)} | "
        f"{_ranking(result.rank)} | {result.figure:.3f} | `{result.command}` |"
        for result in ranked
    ]
    return "\n".join(lines)


def _ranking(value: float) -> str:
    return "" if value == float("-inf") else f"{value:.3f}"


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in row.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page, after adding an evaluation if one is given."""
    parser = argparse.ArgumentParser(prog="models.evaluation.results", description=main.__doc__)
    action = parser.add_subparsers(dest="action")
    add = action.add_parser("add", help="add an evaluation first")
    add.add_argument("evaluation", type=Path)
    add.add_argument("--command", required=True, help="what reprints it")
    add.add_argument("--differs", default="", help="what is not as in the references")
    add.add_argument("--reference", type=Path, help="JSON list of references")
    volume = action.add_parser("add-volume", help="add an evaluation of whole volumes first")
    volume.add_argument("evaluation", type=Path)
    volume.add_argument("--command", required=True, help="what reprints it")
    volume.add_argument("--record", required=True, help="id of the method record")
    volume.add_argument("--seed", type=int, required=True, help="of the training")
    chosen = parser.parse_args(arguments)
    if chosen.action == "add-volume":
        add_volume_result(
            json.loads(chosen.evaluation.read_text(encoding="utf-8")),
            command=chosen.command,
            record=chosen.record,
            seed=chosen.seed,
            folder=RESULTS,
        )
    elif chosen.action:
        add_result(
            chosen.evaluation,
            command=chosen.command,
            differs=chosen.differs,
            reference=chosen.reference,
        )
    PAGE.write_text(results_page(read_results(), read_volume_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()

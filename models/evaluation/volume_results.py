"""The part of ``models/RESULTS.md`` that is about whole volumes with synthetic lesions."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import RecordError
from models.evaluation.rows import TABLE_METRICS, Row

VOLUMES = "volumes"  # Folder below that of the results.
DIGITS = 5
LESION = re.compile(r"synthetic (?P<size>\d+) mm (?P<contrast>[+-]\d) SD")
POOLED_FROM_MM = 15
READ = """Of several seeds the mean is shown, in brackets the standard deviation.
Every row compares with the same people without lesion, so the mean of rows is the AUROC of all their
lesions; pixel AP is averaged. Contrast is in standard deviations of the brain's own voxels; the
intensity column is told whether to look for bright or dark."""


class VolumeResult(BaseModel):
    """One committed evaluation of one artefact on volumes.

    Attributes
    ----------
    command : str
        Reprints it.
    data, record : str
    seed : int
        Of the training.
    model_hash : str
    rows : tuple of dict
        See ``models.evaluation.rows.Row``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    data: str
    record: str
    seed: int
    model_hash: str
    rows: tuple[dict[str, Any], ...]

    @property
    def measured(self) -> list[Row]:
        """The rows."""
        return [Row(**row) for row in self.rows]


def add_volume_result(
    document: Mapping[str, Any], *, command: str, record: str, seed: int, folder: Path
) -> Path:
    """Put an evaluation of volumes among the committed ones.

    Parameters
    ----------
    document : mapping
        What ``vigil models evaluate --json`` wrote for one artefact of whole volumes.
    command : str
        What reprints it.
    record : str
        Id of the method record.
    seed : int
        Of the training.
    folder : Path
        Of the committed results.
    """
    result = VolumeResult(
        command=command,
        data=document["data"],
        record=record,
        seed=seed,
        model_hash=document["model_hash"],
        rows=tuple(
            {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in row.items()}
            for row in document["rows"]
        ),
    )
    path = folder / VOLUMES / f"{result.data}-{record}-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps(result.model_dump(exclude={"rows"}), indent=1)
    lines = ",\n  ".join(json.dumps(row) for row in result.rows)
    path.write_text(f'{head[:-2]},\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")
    return path


def read_volume_results(folder: Path) -> list[VolumeResult]:
    """All committed evaluations of volumes, in the order of their file names.

    Raises
    ------
    RecordError
        If a file is not one.
    """
    found = []
    for path in sorted((folder / VOLUMES).glob("*.json")):
        try:
            found.append(VolumeResult.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise RecordError(f"{path.name}: {error}") from error
    return found


def volume_sections(results: Sequence[VolumeResult]) -> list[str]:
    """One section a data folder and record: figures by lesion, and all lesions that count pooled."""
    groups: dict[tuple[str, str], list[VolumeResult]] = {}
    for result in results:
        groups.setdefault((result.data, result.record), []).append(result)
    return [_section(data, record, group) for (data, record), group in groups.items()]


def _section(data: str, record: str, results: Sequence[VolumeResult]) -> str:
    seeds = [_by_finding(result.measured) for result in results]
    findings = [finding for finding in seeds[0] if LESION.fullmatch(finding)]
    trained = ", ".join(str(result.seed) for result in results)
    text = [
        f"## {data}, volumes: {record}",
        f"Synthetic lesions in held-apart people; training seeds {trained}. {READ}",
    ]
    counted = [finding for finding in findings if _counts(finding)]
    pools = {
        "both": counted,
        "dark": [finding for finding in counted if _contrast(finding) < 0],
        "bright": [finding for finding in counted if _contrast(finding) > 0],
    }
    rows = [_row(f"at least {POOLED_FROM_MM} mm, {name}", seeds, members) for name, members in pools.items()]
    rows += [_row(finding, seeds, [finding]) for finding in findings]
    columns = [name for name in TABLE_METRICS if name != "mean_percentile"]
    text.append(
        "\n".join(
            [
                "| finding | " + " | ".join(TABLE_METRICS[name] for name in columns) + " |",
                "|---" * (len(columns) + 1) + "|",
                *rows,
            ]
        )
    )
    text.append("\n".join(f"- seed {result.seed}: `{result.command}`" for result in results))
    return "\n\n".join(text)


def _row(title: str, seeds: Sequence[Mapping[str, Mapping[str, float]]], findings: Sequence[str]) -> str:
    cells = []
    for metric in TABLE_METRICS:
        if metric == "mean_percentile":
            continue
        values = [fmean(seed[finding].get(metric, 0.0) for finding in findings) for seed in seeds]
        spread = f" ({stdev(values):.3f})" if len(values) > 1 else ""
        cells.append(f"{fmean(values):.3f}{spread}")
    return f"| {title} | " + " | ".join(cells) + " |"


def _by_finding(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.split == "test":
            found.setdefault(row.finding, {})[row.metric] = row.value
    return found


def _contrast(finding: str) -> int:
    match = LESION.fullmatch(finding)
    return int(match["contrast"]) if match else 0


def _counts(finding: str) -> bool:
    match = LESION.fullmatch(finding)
    return match is not None and int(match["size"]) >= POOLED_FROM_MM

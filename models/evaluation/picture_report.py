"""An evaluation of pictures as files to read: JSON, tables, figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.evaluation.picture_tables import (
    CASE_COLUMNS,
    MEAN,
    PIXEL_COLUMNS,
    SPREAD,
    SYNTHETIC,
    baseline_lines,
    model_lines,
    places_of,
    synthetic_table,
    table,
)
from models.evaluation.plots import draw_bathtub, draw_histogram, draw_precision_recall, draw_roc, draw_sheet
from models.evaluation.report import rows_of
from models.evaluation.rows import Row


def write_picture_report(result: Mapping[str, Any], folder: Path) -> Path:
    """Write ``evaluation.json``, ``report.md`` and its figures.

    Parameters
    ----------
    result : dict
        What ``models.evaluation.pictures.evaluate_pictures`` returned.
    folder : Path
        Made if it is not there.

    Returns
    -------
    Path
        ``report.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    rows = rows_of(result)
    task = f", task {result['task']}" if result["task"] else ""
    lines = [
        f"# {result['artefact']} on {result['data']}{task}",
        "",
        f"Method {result['method']}, training seeds {', '.join(str(seed) for seed in result['seeds'])}.",
        f"Seed of the evaluation {result['seed']}; at most {result['peak_memory_mib']} MiB of memory.",
        "In brackets the 95 % interval: bootstrap by patient, Wilson for sensitivity and specificity.",
        "Optimistic figures use labels to choose a threshold, or to let a property count when high, low",
        "or far from that of normals.",
    ]
    for (split, finding), own in places_of(rows).items():
        lines += ["", f"## {split}: {finding or 'all'}", *_prevalence(own), ""]
        measured = [*baseline_lines(own), *model_lines(own)]
        tables = [table(measured, CASE_COLUMNS), table(measured, PIXEL_COLUMNS)]
        lines.append("\n\n".join(text for text in tables if text))
    for split in dict.fromkeys(row.split for row in rows):
        own = [row for row in rows if row.split == split]
        if any(row.finding.startswith(SYNTHETIC) for row in own):
            lines += ["", f"## {split}: synthetic anomalies in its normals, not disease", ""]
            lines.append(synthetic_table(own))
    lines += _figures(result, folder)
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _prevalence(rows: list[Row]) -> list[str]:
    """Counts and shares of the abnormal, which are the AP of chance."""
    found = {row.metric: row for row in rows if ":" not in row.metric and row.artefact not in {MEAN, SPREAD}}
    said = []
    if "prevalence" in found:
        row = found["prevalence"]
        said.append(f"{row.n} cases, {round(row.value * row.n)} abnormal (prevalence {row.value:.3f}).")
    if "pixel_prevalence" in found:
        said.append(f"Share of abnormal pixels {found['pixel_prevalence'].value:.4f}.")
    return ["", " ".join(said)] if said else []


def _figures(result: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw what the result has the numbers for; lines that show the figures."""
    lines: list[str] = []
    scored = [row for row in result["scores"] if 0 < sum(row["labels"]) < len(row["labels"])]

    def show(name: str, title: str) -> Path:
        if not lines:
            lines.extend(["", "## Figures"])
        lines.extend(["", f"![{title}]({name})"])
        return folder / name

    for number, split in enumerate(dict.fromkeys(row["split"] for row in scored)):
        own = [row for row in scored if row["split"] == split]
        draw_roc(own, show(f"roc-{number}.png", f"ROC, {split}"))
        draw_precision_recall(own, show(f"precision-recall-{number}.png", f"Precision and recall, {split}"))
        first = [row for row in own if row["artefact"] == own[0]["artefact"]]
        for place, row in enumerate(first):
            draw_histogram(row, show(f"scores-{number}-{place}.png", f"Scores, {split}, {row['finding']}"))
    for number, split in enumerate(dict.fromkeys(row["split"] for row in result["rows"])):
        own = [row for row in result["rows"] if row["split"] == split]
        names = list(dict.fromkeys(row["artefact"] for row in own if row["metric"] == "synthetic_ap"))
        for over in ("intensity", "radius") if names else ():
            chosen = MEAN if MEAN in names else names[0]
            swept = [
                row for row in own if row["artefact"] == chosen and row["finding"].startswith(f"{over}=")
            ]
            if swept:
                draw_bathtub(swept, over, show(f"{over}-{number}.png", f"AP over {over}, {split}"))
    for number, split in enumerate(dict.fromkeys(case["split"] for case in result["cases"])):
        cases = [case for case in result["cases"] if case["split"] == split]
        draw_sheet(cases, show(f"cases-{number}.png", f"Best, median and worst cases, {split}"))
    return lines

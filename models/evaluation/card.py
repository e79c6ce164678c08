"""The model card, written from the manifest, the calibration, the data description and measured rows."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from models.artefact import CALIBRATION, CARD, Artefact, Manifest, write_manifest
from models.calibration import Calibration, read_calibration
from models.evaluation.dataset import DataRecord, read_data_record
from models.evaluation.rows import Row, markdown_table

WIDTH = 100  # Of a filled line.
MARGIN = 0.03  # Of an AUROC; smaller differences are not spoken of.


def refresh_card(
    folder: Path, rows: Sequence[Row], spread: Sequence[Row] = (), data: Sequence[str] = ()
) -> None:
    """Put measured rows into the card of an artefact. Its identity stays the same.

    Parameters
    ----------
    folder : Path
        Artefact, verified before it is touched.
    rows, spread : sequence of Row
    data : sequence of str
        See ``write_card``.

    Raises
    ------
    ArtefactError
        If the artefact is incomplete or changed.
    RecordError
        If its training data has no valid description.
    """
    manifest = Artefact.load(folder).manifest
    write_card(folder, manifest, read_data_record(Path(manifest.training.data)), rows, spread, data)
    write_manifest(folder, manifest)


def write_card(
    folder: Path,
    manifest: Manifest,
    described: DataRecord,
    rows: Sequence[Row],
    spread: Sequence[Row] = (),
    data: Sequence[str] = (),
) -> None:
    """Write ``MODEL_CARD.md``. The manifest must be written afterwards: it holds the card's hash.

    Parameters
    ----------
    folder : Path
        Artefact.
    manifest : Manifest
    described : DataRecord
        Training data.
    rows : sequence of Row
        Results of ``models.evaluation.protocol.evaluate`` on this artefact.
    spread : sequence of Row
        The same of artefacts made with every seed, this one among them.
    data : sequence of str
        Names of the data folders behind ``rows``; the training data alone where none is given.
    """
    calibration = read_calibration(folder / CALIBRATION)
    counts = manifest.training.subjects
    members = ", ".join(name for name, head in manifest.heads.items() if head.is_member)
    size = "a small group; the percentile is coarse" if calibration.is_small else "a group of usual size"
    people = sum(counts[role] for role in ("train", "selection", "calibration", "test"))
    width, length = manifest.applicability.width_mm, manifest.applicability.length_mm
    software = ", ".join(f"{key} {value}" for key, value in manifest.training.software.items())
    text = f"""# {manifest.title} {manifest.version}

**{manifest.disclaimer}** A high percentile is not a clean bill of health: it bounds false alarms
on normals, and says nothing about findings the model cannot see.

## What it does
Scores a skull-stripped T1-weighted brain volume for how unusual it is and shows where.
Members: {members}. The ceVAE (context-encoding variational autoencoder, Zimmerer's dissertation,
section 3.2.3) gives the absolute residual times the gradient of its KL term; the denoiser is a U-Net
that removes coarse noise, coherent from slice to slice. Every map is smoothed over the volume and
compared with normals at the same place. The study score is the mean over the highest
{manifest.top_mm3:g} mm3 of the largest member.

## Data
{described.source}
Licence: {described.licence}. Cite: {described.citation}.

Split by person: {counts["train"]} train, {counts["selection"]} selection,
{counts["calibration"]} calibration, {counts["test"]} held apart. {described.drawn}

{described.remarks}

## Reference group
{calibration.group}; n = {calibration.n}, {size}. The lowest percentile it can give is
{100 / (calibration.n + 1):.1f}. No tail is modelled: that needs thirty exceedances.
Pixel bands: {calibration.band_rule}.

## Limits
- {people} people of one source, 2 mm voxels. Other scanners and ages are not calibrated: expect
  higher scores of normals there.
- Skull-stripped T1 without contrast agent alone. Heads with skull, other sequences, brains outside
  {width[0]:g} to {width[1]:g} mm width or {length[0]:g} to {length[1]:g} mm length are *not assessable*.
- The sequence is recognised by Series Description alone; a series that does not name its sequence
  is scored.
- Small (10 mm and less) and faint lesions are mostly missed; see the table. The outermost
  {manifest.erode_mm:g} mm of the brain are not scored.
- Tested on synthetic lesions: soft blobs, not disease. Enlarged ventricles, atrophy, malformations
  and motion were not tested.

{_results(rows, spread, calibration)}

## Run it again
```
{_commands(manifest, data or (described.name,), _seeds(spread))}
```

Record {manifest.training.record_sha256[:16]}; made with {software}. Weights: {manifest.licence}."""
    (folder / CARD).write_text(_wrapped(text), encoding="utf-8")


def _wrapped(text: str) -> str:
    """Paragraphs filled to a readable width; headings, lists, tables and code stay as they are."""
    blocks = []
    for block in (part.strip("\n") for part in text.split("\n\n")):
        heading, body = "", block
        if block.startswith("#"):
            heading, _, body = block.partition("\n")
        if body.startswith(("#", "|", "-", "```")):
            blocks.append(block)
        else:
            filled = textwrap.fill(" ".join(body.split()), WIDTH, break_long_words=False)
            blocks.append(f"{heading}\n{filled}".strip())
    return "\n\n".join(blocks) + "\n"


def _seeds(spread: Sequence[Row]) -> list[str]:
    """Training seeds of measured rows; a row names its artefact as ``<name>-<version> seed <seed>``."""
    return sorted({row.artefact.rpartition(" ")[2] for row in spread})


def _commands(manifest: Manifest, data: Sequence[str], seeds: Sequence[str]) -> str:
    """Every command behind the table, in the order in which they are run."""
    name, trained = f"{manifest.name}-{manifest.version}", manifest.training
    own = str(trained.seed)
    lines: list[str] = []
    documents: list[str] = []
    others: list[str] = []
    for seed in [own, *(seed for seed in seeds if seed != own)]:
        out = "models/artefacts" if seed == own else f"seeds/{seed}"
        lines.append(f"vigil models train models/records/{trained.record} --data {trained.data} \\")
        lines.append(f"    --out {out} --seed {seed}")
        for folder in data if seed == own else (trained.data,):
            document = f"evaluation-{folder}-{seed}.json"
            (documents if seed == own else others).append(document)
            lines.append(f"vigil models evaluate --artefact {out}/{name} --data {folder} \\")
            lines.append(f"    --seed 1 --json {document} --report report-{folder}-{seed}")
    last = f"python -m models.evaluation.report models/artefacts/{name} \\\n    {' '.join(documents)}"
    if others:
        last += f" \\\n    --spread {' '.join(others)}"
    return "\n".join([*lines, last])


def _results(rows: Sequence[Row], spread: Sequence[Row], calibration: Calibration) -> str:
    if not rows:
        return "## Results\nNot evaluated yet.\n"
    text = (
        "## Results on held-apart people\n"
        "Area under the ROC curve of study scores: lesions against the same people without; in brackets\n"
        "the 95 % interval of a bootstrap by person. Contrast in standard deviations of the brain's own\n"
        "voxels. The intensity baseline is told whether to look for bright or dark; n counts lesions, or\n"
        "people. All maps are compared without the rim that is not scored. Rows that name selection or\n"
        "calibration are of people the model was chosen or calibrated on. The training step of each network\n"
        "was chosen by toy lesions on the selection people, the levels that divide the members come from\n"
        "normals of the same people; the members themselves are set in the record.\n\n"
        + markdown_table(rows)
        + "\n"
    )
    for row in rows:
        if (row.finding, row.metric, row.split) == ("normal", "mean_percentile", "test"):
            expected = 50 * (calibration.n + 2) / (calibration.n + 1)
            text += (
                f"\nThe mean percentile of the {row.n} held-apart normals is {row.value:.1f}; studies that\n"
                f"are exchangeable with the reference group (n = {calibration.n}) would\n"
                f"have {expected:.1f}.\n"
            )
    worse = _findings_a_member_wins(rows)
    if worse:
        text += (
            f"\nIn {len(worse)} rows a member alone is more than {MARGIN} above the model: there the others\n"
            "cost more than they give. What is combined is to be chosen for the next version, on selection\n"
            "people.\n"
        )
    if not spread:
        return text + "\nThe numbers are of one training seed; the spread over seeds was not measured.\n"
    text += "\nStudy AUROC of every training seed that was measured, lowest first:\n\n"
    found: dict[str, dict[str, float]] = {}
    for row in spread:
        if row.metric == "sample_auroc":
            found.setdefault(row.finding, {})[row.artefact] = row.value
    for finding, by_seed in found.items():
        if len(by_seed) > 1:
            text += f"- {finding}: {', '.join(f'{value:.2f}' for value in sorted(by_seed.values()))}\n"
    return text


def _findings_a_member_wins(rows: Sequence[Row]) -> list[str]:
    model = {row.finding: row.value for row in rows if row.metric == "sample_auroc"}
    members = [row for row in rows if row.metric in ("sample_auroc:cevae", "sample_auroc:denoiser")]
    return sorted({row.finding for row in members if row.value > model[row.finding] + MARGIN})

"""The fixed protocol: an artefact on a data folder, as rows that say what, on whom and how sure.

Findings are measured on held-apart people alone. Where the data has no findings, synthetic lesions are
drawn from the seed: several of every size and contrast in every person, compared with the same people
without. People, not lesions, are redrawn for the intervals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.aggregation import Map
from models.artefact import Artefact
from models.errors import NotAssessableError
from models.evaluation.baselines import PrincipalComponents, intensity_map, keep_core, study_score
from models.evaluation.dataset import DataRecord, Entry, Role, read_data_record, read_mask, read_nifti
from models.evaluation.lesions import add_lesion
from models.evaluation.metrics import auroc, average_precision, bootstrap_interval, wilson_interval
from models.evaluation.rows import Row
from models.predictor import Predictor
from models.preprocess import brain_mask, prepare, to_source
from models.volume import Volume

DIAMETERS_MM = (5.0, 10.0, 15.0, 20.0, 30.0)
CONTRASTS_SD = (-2.0, -1.0, 1.0, 2.0)
LESIONS_A_PERSON = 3
NO_FINDING = ""
NORMAL = "normal"
CHOSEN_ON: tuple[Role, ...] = ("selection", "calibration")

Report = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Case:
    """Scores of one volume by scorer (``""`` is the model), and how well its maps find the lesion.

    Attributes
    ----------
    is_lowest : bool
        Its percentile is the lowest the reference group can give.
    is_highlighted : bool
        A voxel reaches the lowest band; asked of normals alone.
    """

    subject: str
    finding: str
    scores: dict[str, float]
    precisions: dict[str, float] = field(default_factory=dict)
    p_value: float = 1.0
    is_lowest: bool = False
    is_highlighted: bool = False


def evaluate(
    artefacts: Sequence[Path],
    data: Path,
    seed: int,
    *,
    report: Report | None = None,
    lesions: int = LESIONS_A_PERSON,
    diameters_mm: Sequence[float] = DIAMETERS_MM,
    contrasts_sd: Sequence[float] = CONTRASTS_SD,
) -> dict[str, object]:
    """Measure artefacts on every part of a data folder but ``train``; findings on ``test`` alone.

    Parameters
    ----------
    artefacts : sequence of Path
        Artefact folders.
    data : Path
        Folder described by ``models/records/data/<folder>.yaml``.
    seed : int
        Of synthetic lesions and bootstrap.
    report : callable, optional
        Gets one line a person.
    lesions : int
        Synthetic lesions of each size and contrast in each person.

    Returns
    -------
    dict
        ``data``, ``artefact``, ``model_hash``, ``seed``, ``rows`` (see ``models.evaluation.rows.Row``), and
        ``scores``: labels and scores by finding, as of ``models.evaluation.pictures``.

    Raises
    ------
    ArtefactError
        If an artefact is incomplete or changed.
    RecordError
        If the data folder has no valid description.
    """
    tell: Report = report or (lambda _line: None)
    described = read_data_record(data)
    loaded = [Artefact.load(path) for path in artefacts]
    rows: list[Row] = []
    scores: list[dict[str, object]] = []
    for artefact in loaded:
        name = f"{artefact.manifest.name}-{artefact.manifest.version} seed {artefact.manifest.training.seed}"
        predictor = Predictor.load(artefact)
        cases = _measure(predictor, described, data, seed, tell, lesions, diameters_mm, contrasts_sd)
        rows += summarise(cases, name, seed)
        scores += _score_tables(cases, name)
        rows += _other_normals(predictor, described, data, name)
        rows += _refusals(predictor, described, data, name)
    return {
        "data": described.name,
        "artefact": ", ".join(f"{a.manifest.name}-{a.manifest.version}" for a in loaded),
        "model_hash": ", ".join(a.sha256 for a in loaded),
        "seed": seed,
        "rows": [row.as_dict() for row in rows],
        "scores": scores,
    }


def summarise(cases: Sequence[Case], artefact: str, seed: int) -> list[Row]:
    """Rows of measured cases: ranking of each finding against the normals, maps, alarms on normals."""
    normals = [case for case in cases if case.finding == NO_FINDING]
    rows = []
    for finding in dict.fromkeys(case.finding for case in cases if case.finding != NO_FINDING):
        positives = [case for case in cases if case.finding == finding]
        if normals:
            rows += _ranking_rows(normals, positives, artefact, finding, seed)
        for scorer in positives[0].precisions:
            rows.append(_mean_row(positives, artefact, finding, _named("pixel_ap", scorer), seed, scorer))
        shares = np.array([case.p_value for case in positives])
        rows.append(_plain(artefact, finding, "mean_percentile", 100 * float(shares.mean()), len(positives)))
    if normals:
        shares = np.array([case.p_value for case in normals])
        rows.append(_plain(artefact, NORMAL, "mean_percentile", 100 * float(shares.mean()), len(normals)))
        rows.append(_share(artefact, "at_lowest", [case.is_lowest for case in normals]))
        rows.append(_share(artefact, "highlighted", [case.is_highlighted for case in normals]))
    return rows


def _score_tables(cases: Sequence[Case], artefact: str) -> list[dict[str, object]]:
    """Labels and the model's scores of the normals and of each finding; sorted, so that nobody is known."""
    normals = [case.scores[""] for case in cases if case.finding == NO_FINDING]
    tables: list[dict[str, object]] = []
    for finding in dict.fromkeys(case.finding for case in cases if case.finding != NO_FINDING):
        positives = [case.scores[""] for case in cases if case.finding == finding]
        both = sorted([(value, 0) for value in normals] + [(value, 1) for value in positives])
        tables.append(
            {
                "artefact": artefact,
                "split": "test",
                "finding": finding,
                "labels": [label for _, label in both],
                "scores": [float(f"{value:.6g}") for value, _ in both],
            }
        )
    return tables


def _measure(
    predictor: Predictor,
    described: DataRecord,
    data: Path,
    seed: int,
    tell: Report,
    lesions: int,
    diameters_mm: Sequence[float],
    contrasts_sd: Sequence[float],
) -> list[Case]:
    train = [read_nifti(data / entry.file) for entry in described.of_role("train")]
    contract = predictor.manifest.input
    components = PrincipalComponents([prepare(volume, contract) for volume in train]) if train else None
    cases = []
    for entry in described.of_role("test"):
        volume = read_nifti(data / entry.file)
        if entry.finding:
            cases.append(_found_case(predictor, entry, volume, data, components))
            continue
        normal = _case(predictor, entry.subject, NO_FINDING, volume, None, 0, components)
        shown = predictor.predict(volume)
        normal.is_highlighted = bool(shown.map.max() >= shown.bands[0])
        cases.append(normal)
        for diameter in diameters_mm:
            for contrast in contrasts_sd:
                for number in range(lesions):
                    drawn = lesion_seed(seed, entry.subject, diameter, contrast, number)
                    changed, mask = add_lesion(volume, diameter_mm=diameter, contrast_sd=contrast, seed=drawn)
                    finding = f"synthetic {diameter:g} mm {contrast:+g} SD"
                    sign = 1 if contrast > 0 else -1
                    cases.append(_case(predictor, entry.subject, finding, changed, mask, sign, components))
        tell(f"{entry.subject}: {len(cases)} volumes scored so far")
    return cases


def lesion_seed(seed: int, subject: str, diameter_mm: float, contrast_sd: float, number: int) -> int:
    """The seed of one synthetic lesion: different for each, the same in every run."""
    return crc32(f"{seed}/{subject}/{diameter_mm:g}/{contrast_sd:g}/{number}".encode())


def _found_case(
    predictor: Predictor, entry: Entry, volume: Volume, data: Path, components: PrincipalComponents | None
) -> Case:
    mask = read_mask(data / entry.mask) if entry.mask else None
    return _case(predictor, entry.subject, entry.finding, volume, mask, -1, components)


def _case(
    predictor: Predictor,
    subject: str,
    finding: str,
    volume: Volume,
    mask: NDArray[np.bool_] | None,
    sign: int,
    components: PrincipalComponents | None,
) -> Case:
    """One volume scored by the model, its members and the baselines; ``sign``: the finding's, 0 for none."""
    outcome = predictor.score(volume)
    prepared, manifest = outcome.reading.prepared, predictor.manifest
    maps: dict[str, Map] = {"": outcome.combined, **_family_maps(outcome.reading.maps)}
    scores = {"": outcome.study_score, "trivial": 0.0}
    scores |= {name: study_score(values, prepared, manifest) for name, values in maps.items() if name}
    for name, tail in (("intensity_dark", -1), ("intensity_bright", 1)):
        values = intensity_map(prepared, tail)
        scores[name] = study_score(values, prepared, manifest)
        if tail == sign:
            maps["intensity"] = keep_core(values, outcome.reading.inside)
    if components is not None:
        values = components.residual_map(prepared)
        maps["pca"] = keep_core(values, outcome.reading.inside)
        scores["pca"] = study_score(values, prepared, manifest)
    case = Case(
        subject=subject,
        finding=finding,
        scores=scores,
        p_value=outcome.p_value,
        is_lowest=outcome.p_value <= 1 / (predictor.identity.n + 1),
    )
    if mask is not None:
        brain = brain_mask(volume)
        truth = mask[brain]
        for name, values in maps.items():
            found = to_source(np.ascontiguousarray(values), prepared, volume)[brain]
            case.precisions[name] = average_precision(truth, found)
        case.precisions["trivial"] = float(truth.mean())
    return case


def _family_maps(heads: dict[str, Map]) -> dict[str, Map]:
    """One map a family of heads: the larger of ``<family>_dark`` and ``<family>_bright``."""
    families: dict[str, Map] = {}
    for name, values in heads.items():
        family = name.removesuffix("_dark").removesuffix("_bright")
        if family != "intensity":
            families[family] = np.maximum(families[family], values) if family in families else values
    return families


def _ranking_rows(
    normals: Sequence[Case], positives: Sequence[Case], artefact: str, finding: str, seed: int
) -> list[Row]:
    both = [*normals, *positives]
    truth = np.array([False] * len(normals) + [True] * len(positives))
    subjects = [case.subject for case in both]
    tail = "intensity_bright" if "+" in finding else "intensity_dark"
    rows = []
    for scorer in both[0].scores:
        if scorer.startswith("intensity_") and scorer != tail:
            continue
        values = np.array([case.scores[scorer] for case in both])
        low, high = bootstrap_interval(subjects, partial(_auroc_of, truth, values), seed=seed)
        shown = "intensity" if scorer == tail else scorer
        rows.append(
            Row(
                artefact=artefact,
                split="test",
                finding=finding,
                metric=_named("sample_auroc", shown),
                value=auroc(truth, values),
                low=low,
                high=high,
                n=len(positives),
            )
        )
    return rows


def _auroc_of(truth: NDArray[np.bool_], values: NDArray[np.float64], index: NDArray[np.int64]) -> float:
    return auroc(truth[index], values[index])


def _mean_row(cases: Sequence[Case], artefact: str, finding: str, metric: str, seed: int, scorer: str) -> Row:
    values = np.array([case.precisions[scorer] for case in cases])
    low, high = bootstrap_interval(
        [case.subject for case in cases], lambda index: float(values[index].mean()), seed=seed
    )
    return Row(
        artefact=artefact,
        split="test",
        finding=finding,
        metric=metric,
        value=float(values.mean()),
        low=low,
        high=high,
        n=len(cases),
    )


def _other_normals(predictor: Predictor, described: DataRecord, data: Path, artefact: str) -> list[Row]:
    """Normals the model was chosen or calibrated on, for comparison with those held apart."""
    rows = []
    for role in CHOSEN_ON:
        entries = [entry for entry in described.of_role(role) if not entry.finding]
        if entries:
            outcomes = [predictor.score(read_nifti(data / entry.file)) for entry in entries]
            percentile = 100 * float(np.mean([outcome.p_value for outcome in outcomes]))
            row = _plain(artefact, NORMAL, "mean_percentile", percentile, len(entries))
            rows.append(replace(row, split=role))
    return rows


def _refusals(predictor: Predictor, described: DataRecord, data: Path, artefact: str) -> list[Row]:
    """Share of volumes that must be refused and are, with the reason the description names."""
    entries = described.of_role("not_assessable")
    right = 0
    for entry in entries:
        try:
            predictor.predict(read_nifti(data / entry.file))
        except NotAssessableError as refusal:
            right += refusal.reason == entry.reason
    if not entries:
        return []
    return [
        Row(
            artefact=artefact,
            split="not_assessable",
            finding="",
            metric="refused",
            value=right / len(entries),
            low=None,
            high=None,
            n=len(entries),
        )
    ]


def _named(metric: str, scorer: str) -> str:
    return f"{metric}:{scorer}" if scorer else metric


def _plain(artefact: str, finding: str, metric: str, value: float, n: int) -> Row:
    return Row(
        artefact=artefact, split="test", finding=finding, metric=metric, value=value, low=None, high=None, n=n
    )


def _share(artefact: str, metric: str, found: Sequence[bool]) -> Row:
    """Share of held-apart normals; one volume a person, so the cases are independent."""
    low, high = wilson_interval(sum(found), len(found))
    return replace(_plain(artefact, NORMAL, metric, sum(found) / len(found), len(found)), low=low, high=high)

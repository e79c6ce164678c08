"""Record and data → artefact folder: train, choose, export, compare with normals, calibrate, write."""

import hashlib
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from scipy import ndimage

from models.aggregation import REDUCTION, Map, Normals, combine, reduce_map
from models.artefact import (
    CALIBRATION,
    NETWORK,
    NORMALS,
    Artefact,
    InputContract,
    Manifest,
    Training,
    write_manifest,
)
from models.calibration import Calibration, find_bands
from models.errors import RecordError
from models.evaluation.card import write_card
from models.evaluation.dataset import DataRecord, read_data_record
from models.making.brain.data import fit_contract, prepare_all, read_role, toy_set
from models.making.brain.record import Record, read_record
from models.making.brain.scorers import OUTPUTS, Scorer
from models.making.brain.trainers import Report, train_cevae, train_denoiser
from models.making.export import export_onnx
from models.predictor import (
    Reading,
    context_slices,
    read_members,
    slice_position,
    source_maps,
    study_score_of,
)
from models.preprocess import Prepared, prepare
from models.runtime import VERSION, Session
from models.volume import Volume

PRIOR_VOLUMES = 8.0  # Weight of the brain-wide variance against the local one, in volumes.
STATISTICS_BLUR = 1.5  # Voxels of the reduced grid.
LEVEL_DEVIATIONS = 1.0  # A member's level is the normals' mean score plus this many deviations.
MIN_SUBJECTS = {"train": 5, "selection": 2, "calibration": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """What training leaves behind."""

    contract: InputContract
    scorer: Scorer


def train_artefact(record: Path, data: Path, out: Path, seed: int, report: Report | None = None) -> Path:
    """Make an artefact by a method record; the same record, data, seed and software give the same network.

    Parameters
    ----------
    record : Path
        Method record, YAML.
    data : Path
        Data folder described by ``models/records/data/<folder>.yaml``.
    out : Path
        Parent of the new folder ``<name>-<version>``, which is replaced if it is there.
    seed : int
    report : callable, optional
        Gets one line a step.

    Returns
    -------
    Path
        The artefact folder.

    Raises
    ------
    RecordError
        If the record or the description of the data is not valid or a part of the split is too small.
    """
    tell: Report = report or (lambda _line: None)
    recipe = read_record(record)
    described = read_data_record(data)
    for role, least in MIN_SUBJECTS.items():
        found = sum(entry.role == role for entry in described.volumes)
        if found < least:
            raise RecordError(
                f"{described.name}: {found} volumes of role {role}, at least {least} are needed"
            )
    networks = train_networks(recipe, described, data, seed, tell)
    return assemble(record, described, data, out, seed, networks, tell)


def train_networks(recipe: Record, described: DataRecord, data: Path, seed: int, tell: Report) -> Networks:
    """Both members, trained on ``train`` and chosen on ``selection``."""
    # One thread repeats the same sums in the same order on any machine of the same kind.
    torch.set_num_threads(1)
    volumes = read_role(described, data, "train")
    contract = fit_contract(volumes, recipe.input)
    subjects = prepare_all(volumes, contract)
    toys = toy_set(prepare_all(read_role(described, data, "selection"), contract), recipe.toy_seed)
    cevae = train_cevae(recipe.cevae, contract, subjects, toys, seed, tell)
    denoiser = train_denoiser(recipe.denoiser, contract, subjects, toys, seed, tell)
    middle = contract.context.index(0)
    scorer = Scorer(cevae, denoiser, middle=middle, gradient_scale=1.0).eval()
    scorer.gradient_scale.fill_(_gradient_scale(scorer, subjects))
    return Networks(contract=contract, scorer=scorer)


def assemble(
    record: Path,
    described: DataRecord,
    data: Path,
    out: Path,
    seed: int,
    networks: Networks,
    tell: Report,
) -> Path:
    """Write the artefact of trained networks: export, statistics of normals, calibration, manifest."""
    recipe = read_record(record)
    target = out / f"{recipe.name}-{recipe.version}"
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".making-") as place:
        folder = Path(place) / target.name
        folder.mkdir()
        _fill(folder, record, recipe, described, data, seed, networks, tell)
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    tell(f"{target.name}: {Artefact.load(target).sha256}")
    return target


def _fill(
    folder: Path,
    record: Path,
    recipe: Record,
    described: DataRecord,
    data: Path,
    seed: int,
    networks: Networks,
    tell: Report,
) -> None:
    """Every file of the artefact, the manifest last."""
    contract = networks.contract
    example = {
        "slices": torch.zeros(2, len(contract.context), *contract.shape[1:]),
        "position": torch.zeros(2),
    }
    export_onnx(networks.scorer, example, OUTPUTS, folder / NETWORK)
    tell("network exported")
    manifest = _manifest(recipe, record, described, contract, seed)
    session = Session(folder / NETWORK, providers=("CPUExecutionProvider",))
    train = prepare_all(read_role(described, data, "train"), contract)
    fit_normals(train, session, manifest).save(folder / NORMALS)
    # Calibrated with the rounded numbers of the file, because those are what every later score is made of.
    normals = Normals.load(folder / NORMALS, manifest)
    tell("statistics of normals written")
    selection = _read(read_role(described, data, "selection"), session, normals, manifest)
    calibration = _read(read_role(described, data, "calibration"), session, normals, manifest)
    calibrated = calibrate(selection, calibration, manifest, described)
    (folder / CALIBRATION).write_text(calibrated.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_card(folder, manifest, described, ())
    write_manifest(folder, manifest)


def fit_normals(subjects: Sequence[Prepared], session: Session, manifest: Manifest) -> Normals:
    """Mean and standard deviation of each smoothed map over normals and their mirror images.

    The local variance is drawn towards that of the whole brain, as far as few volumes ask for it.
    """
    sums: dict[str, list[Map]] = {}
    weights = np.zeros(tuple(n // REDUCTION for n in manifest.input.shape))
    for subject in subjects:
        for prepared in (subject, _mirrored(subject)):
            weight = reduce_map(prepared.mask.astype(np.float32))
            weights += weight
            for name, values in source_maps(prepared, session, manifest).items():
                reduced = reduce_map(values)
                first, second = sums.setdefault(name, [np.zeros_like(reduced), np.zeros_like(reduced)])
                first += reduced
                second += reduced**2 / np.maximum(weight, 0.25)
    mean, deviation = {}, {}
    blurred = ndimage.gaussian_filter(weights, STATISTICS_BLUR)
    for name, (first, second) in sums.items():
        local = ndimage.gaussian_filter(first, STATISTICS_BLUR) / np.maximum(blurred, 1e-3)
        square = ndimage.gaussian_filter(second, STATISTICS_BLUR) / np.maximum(blurred, 1e-3)
        variance = np.maximum(square - local**2, 0)
        overall = float((variance * weights).sum() / weights.sum())
        drawn = (blurred * variance + PRIOR_VOLUMES * overall) / (blurred + PRIOR_VOLUMES)
        mean[name] = (local * blurred / (blurred + 1.0)).astype(np.float32)
        deviation[name] = np.sqrt(drawn).astype(np.float32)
    return Normals(mean, deviation)


def calibrate(
    selection: Sequence[Reading], calibration: Sequence[Reading], manifest: Manifest, described: DataRecord
) -> Calibration:
    """Levels of members from selection normals, reference scores from calibration normals, bands of both."""
    levels = {}
    for name, head in manifest.heads.items():
        if head.is_member:
            found = np.array([reading.heads[name] for reading in selection])
            levels[name] = round(float(found.mean() + LEVEL_DEVIATIONS * found.std(ddof=1)), 6)
    maps = [(combine(reading.maps, levels), reading) for reading in (*selection, *calibration)]
    scores = [study_score_of(combined, reading, manifest) for combined, reading in maps]
    display_max, bands, rule = find_bands([float(combined.max()) for combined, _ in maps])
    return Calibration(
        format=1,
        group=f"{described.name}: {described.group}",
        calibrated_on=date.today(),  # noqa: DTZ011 - the calendar day where it was made
        scores=tuple(sorted(scores[len(selection) :])),
        levels=levels,
        display_max=display_max,
        bands=bands,
        band_rule=rule,
    )


def _manifest(
    recipe: Record, record: Path, described: DataRecord, contract: InputContract, seed: int
) -> Manifest:
    counts = {role: len(described.of_role(role)) for role in described.roles}
    return Manifest(
        format=1,
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        licence=recipe.licence,
        disclaimer=recipe.disclaimer,
        applicability=recipe.applicability,
        input=contract,
        sources=recipe.sources,
        heads=recipe.heads,
        erode_mm=recipe.erode_mm,
        top_mm3=recipe.top_mm3,
        min_region_mm3=recipe.min_region_mm3,
        training=Training(
            record=record.name,
            record_sha256=hashlib.sha256(record.read_bytes()).hexdigest(),
            seed=seed,
            data=described.name,
            data_licence=described.licence,
            subjects=counts,
            software={
                "python": platform.python_version(),
                "torch": torch.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": VERSION,
                "numpy": np.__version__,
            },
        ),
        files={},
    )


def _gradient_scale(scorer: Scorer, subjects: Sequence[Prepared]) -> float:
    """99.9th percentile of the smoothed KL gradient inside normal training brains."""
    found = []
    for subject in subjects:
        index = np.flatnonzero(subject.mask.any(axis=(1, 2)))[::4]
        x = torch.from_numpy(context_slices(subject.voxels, index, (0,)))
        position = torch.from_numpy(slice_position(index, len(subject.voxels)))
        gradient = scorer.kl_gradient(x, position)[0].detach().numpy()[:, 0]
        found.append(gradient[subject.mask[index]])
    return float(np.percentile(np.concatenate(found), 99.9))


def _mirrored(subject: Prepared) -> Prepared:
    """Left and right exchanged; the grid is centred on the brain, so the place stays comparable."""
    return replace(
        subject,
        voxels=np.ascontiguousarray(subject.voxels[:, :, ::-1]),
        mask=np.ascontiguousarray(subject.mask[:, :, ::-1]),
    )


def _read(volumes: Sequence[Volume], session: Session, normals: Normals, manifest: Manifest) -> list[Reading]:
    return [read_members(prepare(volume, manifest.input), session, normals, manifest) for volume in volumes]

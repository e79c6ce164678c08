"""A record and a data folder → an artefact of a picture model."""

import hashlib
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from models.artefact import (
    CALIBRATION,
    CARD,
    NETWORK,
    PictureManifest,
    SeriesRules,
    Training,
    write_manifest,
)
from models.calibration import calibrate_pictures
from models.evaluation.picture_card import card_text
from models.images.collection import Arrays, Collection, read_collection
from models.images.description import describe
from models.images.picture import Picture
from models.images.predictor import join_slices
from models.images.tables import VolumeReader
from models.images.toys import TOYS, corrupted, untouched
from models.making.ensemble import Ensemble
from models.making.head import Scoring
from models.making.pool import Pool, ToyPool
from models.making.record import MethodRecord, Recipe, read_recipe
from models.making.training import Report, Run, export_head, train
from models.runtime import Session

MOST_TOYS = 192
TOY_SEED = 7
SEED_STRIDE = 101  # Between the seeds of an ensemble's members, so that runs of neighbouring seeds differ.


def train_pictures(
    record: Path | str,
    data: Path,
    out: Path,
    seed: int,
    *,
    task: str | None = None,
    steps: int | None = None,
    fresh: bool = False,
    read_folder: VolumeReader | None = None,
    report: Report | None = None,
    checkpoint_steps: int | None = None,
) -> Path:
    """Make an artefact by a record; the same record, data, seed and software give the same network.

    Parameters
    ----------
    record : Path or str
        Record file, or the id of a shipped record.
    data : Path
        Data folder with a description or a ``manifest.csv``.
    out : Path
        Parent of the new folder ``<id>-<version>``, which is replaced if it is there.
    seed : int
    task : str, optional
        For sets of classes.
    steps : int, optional
        Of every stage, instead of the record's own: for a quick look.
    fresh : bool
        Forget what earlier runs left in ``<out>/runs``, instead of going on from it.
    read_folder : callable, optional
        Opens rows of a manifest that are folders, such as DICOM series.
    report, checkpoint_steps : optional
        As of ``Run``.

    Returns
    -------
    Path
        The artefact folder.

    Raises
    ------
    RecordError, DatasetError
        Before training starts, with what to change.
    """
    torch.set_num_threads(1)  # The same sums in the same order on any machine of a kind.
    recipe = read_recipe(record)
    described = describe(data)
    collection = read_collection(
        data, recipe.input.contract(described.contract), task=task, read_folder=read_folder
    )
    material = gather(collection, seed=TOY_SEED)
    content = hashlib.sha256(f"{recipe.model_dump_json()}{collection.name}{steps}".encode()).hexdigest()
    # A run is found again by what it was started with, so a changed record never goes on from old weights.
    run = out / "runs" / f"{recipe.id}-{seed}-{content[:12]}"
    if fresh and run.exists():
        shutil.rmtree(run)
    run.mkdir(parents=True, exist_ok=True)
    kept = Run(folder=run, report=report, checkpoint_steps=checkpoint_steps)
    scoring = train_recipe(recipe, material, seed=seed, run=kept, steps=steps)
    target = out / f"{recipe.id}-{recipe.version}"
    with TemporaryDirectory(dir=out, prefix=".making-") as place:
        folder = Path(place) / target.name
        folder.mkdir()
        _fill(folder, recipe, record, collection, scoring, seed)
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    return target


def _fill(
    folder: Path, recipe: Recipe, record: Path | str, collection: Collection, scoring: Scoring, seed: int
) -> None:
    """Every file of the artefact, the manifest last."""
    export_head(scoring, folder / NETWORK)
    session = Session(folder / NETWORK, providers=("CPUExecutionProvider",))
    data = collection.description
    manifest = PictureManifest(
        format=2,
        kind="image",
        name=recipe.id,
        version=recipe.version,
        title=recipe.title,
        method=recipe.id,
        licence=recipe.licence if data.may_ship else f"not to be shipped: trained on {data.name}",
        disclaimer=recipe.disclaimer,
        applicability=SeriesRules(
            modality=data.modality,
            body_parts=(),
            age_years=(0, 130),
            accepts_contrast=True,
            accepts_lossy=False,
        ),
        input=collection.contract,
        outputs=session.outputs,
        study=recipe.score.study if isinstance(recipe, MethodRecord) else recipe.study,
        training=_provenance(recipe, record, collection, seed),
        files={},
    )
    scores, maxima = _reference(collection, session, manifest.study)
    calibration = calibrate_pictures(
        f"{collection.name}: {data.group}",
        scores,
        maxima,
        made_on=date.today(),  # noqa: DTZ011 - a calendar day
    )
    (folder / CALIBRATION).write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card_text(manifest, calibration, data), encoding="utf-8")
    write_manifest(folder, manifest)


def _provenance(recipe: Recipe, record: Path | str, collection: Collection, seed: int) -> Training:
    counts = {
        role: len({picture.patient for picture in collection.of_role(role)})
        for role in ("train", "selection", "calibration")
    }
    return Training(
        record=Path(record).name if Path(record).suffix else f"{record}.yaml",
        record_sha256=hashlib.sha256(recipe.model_dump_json().encode()).hexdigest(),
        seed=seed,
        data=collection.name,
        data_licence=collection.description.licence,
        subjects=counts,
        software={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy", "scikit-learn")},
        },
    )


def _reference(collection: Collection, session: Session, study: str) -> tuple[list[float], list[float]]:
    """Study scores and highest map values of the calibration people, one of each person."""
    scores: dict[str, float] = {}
    maxima: dict[str, float] = {}
    for pictures in collection.studies(collection.of_role("calibration")).values():
        patient = pictures[0].patient
        if patient in scores:
            continue
        pool = collection.arrays(pictures)
        found = session.run_batched(
            {"x": pool.pixels, "mask": pool.mask.astype(np.float32), "position": pool.position}
        )
        scores[patient] = join_slices(found["image_score"].astype(np.float64), study)
        if "pixel_score" in found:
            maxima[patient] = float(found["pixel_score"].max())
    return list(scores.values()), list(maxima.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything a training sees.

    Attributes
    ----------
    train, selection : Pool
        Normals of different people.
    toys : ToyPool
        Selection normals with toy lesions.
    """

    train: Pool
    selection: Pool
    toys: ToyPool


def gather(collection: Collection, *, seed: int) -> Material:
    """What a training sees of a data folder: only normals of split ``train``.

    Raises
    ------
    DatasetError
        If a role has no normal picture.
    """
    collection.check_training()
    selection = collection.of_role("selection")
    clean = untouched(collection, selection)
    toys = corrupted(collection, selection, seed=seed)
    changed = _every(picture for picture in toys.of_split(TOYS) if picture.label == 1)
    lesion = np.stack([picture.lesion for picture in changed if picture.lesion is not None])
    return Material(
        train=pool_of(collection.arrays(collection.of_role("train"))),
        selection=pool_of(collection.arrays(selection)),
        toys=ToyPool(
            changed=pool_of(toys.arrays(changed)),
            clean=pool_of(clean.arrays(_every(clean.of_split(TOYS)))),
            lesion=torch.from_numpy(lesion[:, None]),
        ),
    )


def _every(pictures: Iterable[Picture]) -> tuple[Picture, ...]:
    """At most ``MOST_TOYS`` of some pictures, evenly spread: enough to choose a step."""
    found = tuple(pictures)
    return found[:: -(-len(found) // MOST_TOYS)] if found else found


def pool_of(arrays: Arrays) -> Pool:
    """Prepared pictures as tensors."""
    return Pool(
        pixels=torch.from_numpy(arrays.pixels),
        mask=torch.from_numpy(arrays.mask.astype(np.float32)),
        position=torch.from_numpy(arrays.position),
    )


def train_recipe(
    recipe: Recipe, material: Material, *, seed: int, run: Run, steps: int | None = None
) -> Scoring:
    """A trained method, or every member of an ensemble trained and joined."""
    if isinstance(recipe, MethodRecord):
        return train(shortened(recipe, steps), material.train, material.toys, seed=seed, run=run).head
    heads = []
    for number, (name, member) in enumerate(recipe.members.items()):
        method = shortened(member.method(recipe.input), steps)
        for repeat in range(member.seeds):
            own = SEED_STRIDE * (16 * number + repeat) + seed
            part = run.part(f"{name}-{repeat}")
            heads.append((member, train(method, material.train, material.toys, seed=own, run=part).head))
    joined = Ensemble(recipe, heads)
    joined.fit(material.selection.chunks)
    return joined.eval()


def shortened(record: MethodRecord, steps: int | None) -> MethodRecord:
    """The same method with so many steps in every stage."""
    if steps is None:
        return record
    stages = tuple(stage.model_copy(update={"steps": steps}) for stage in record.stages)
    return record.model_copy(update={"stages": stages})

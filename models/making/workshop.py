"""A record and a data folder → an artefact of a picture model."""

import hashlib
import platform
import shutil
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

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
from models.errors import TrainingError
from models.evaluation.picture_card import card_text
from models.images.collection import Collection, read_collection
from models.images.description import describe
from models.images.predictor import join_slices
from models.images.tables import VolumeReader
from models.making.ensemble import Ensemble
from models.making.half import agrees_in_half
from models.making.head import Scoring
from models.making.material import TOY_SEED, Material, gather, pool_of
from models.making.passes import Batch
from models.making.record import EnsembleRecord, MethodRecord, Recipe, read_recipe
from models.making.training import Report, Run, export_head, train
from models.runtime import VERSION, Session

ORDER = "run.json"  # What a training was started with, in the folder of its run.
HALF_SAMPLE = 8  # Pictures on which half precision is compared.
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
    place = str(Path(record).resolve()) if Path(record).suffix else str(record)
    order = Order(record=place, data=data.resolve(), seed=seed, task=task, steps=steps)
    return _make(
        order,
        out,
        fresh=fresh,
        read_folder=read_folder,
        report=report,
        checkpoint_steps=checkpoint_steps,
    )


def export_run(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    read_folder: VolumeReader | None = None,
    report: Report | None = None,
) -> Path:
    """Write the artefact of a training again, from the checkpoints in its folder.

    Parameters
    ----------
    run : Path
        One folder of ``<out>/runs``. A training that was killed goes on to its end first.
    out : Path
        Parent of the artefact folder.
    data : Path, optional
        The data folder, where it has moved since. The reference group is scored again.
    read_folder, report : optional
        As of ``train_pictures``.

    Returns
    -------
    Path
        The artefact folder.

    Raises
    ------
    TrainingError
        If the folder is not that of a training, or its record has changed since.
    RecordError, DatasetError
        As of ``train_pictures``.
    """
    try:
        order = Order.model_validate_json((run / ORDER).read_bytes())
    except OSError as error:
        raise TrainingError(
            f"{run.name} has no {ORDER}; name a folder below the `runs` of a training"
        ) from error
    except ValidationError as error:
        raise TrainingError(f"{ORDER} of {run.name}: {error.errors()[0]['msg']}; train again") from error
    if data is not None:
        order = order.model_copy(update={"data": data.resolve()})
    return _make(order, out, run=run, read_folder=read_folder, report=report)


class Order(BaseModel):
    """What a training was started with; stands in the folder of its run.

    Attributes
    ----------
    record : str
        Id of a shipped record, or a file.
    data : Path
    seed : int
    task : str or None
    steps : int or None
    sha256 : str
        Of everything that shapes the weights besides the seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: str
    data: Path
    seed: int
    task: str | None
    steps: int | None
    sha256: str = ""


def _make(
    order: Order,
    out: Path,
    *,
    run: Path | None = None,
    fresh: bool = False,
    read_folder: VolumeReader | None = None,
    report: Report | None = None,
    checkpoint_steps: int | None = None,
) -> Path:
    """Carry an order out, or what is left of it in the folder of its run."""
    torch.set_num_threads(1)  # The same sums in the same order on any machine of a kind.
    recipe = read_recipe(order.record)
    described = describe(order.data)
    collection = read_collection(
        order.data, recipe.input.contract(described.contract), task=order.task, read_folder=read_folder
    )
    material = gather(collection, seed=TOY_SEED)
    # A run is found again by what it was started with: neither a changed record nor changed data goes on
    # from old weights.
    definition = f"{_definition(recipe)}{collection.name}{order.steps}{material.digest()}"
    content = hashlib.sha256(definition.encode()).hexdigest()
    if run is not None and content != order.sha256:
        raise TrainingError(f"{run.name} was made from another record or data folder; train again")
    folder = run or out / "runs" / f"{recipe.id}-{order.seed}-{content[:12]}"
    if fresh and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ORDER).write_text(order.model_copy(update={"sha256": content}).model_dump_json(indent=2) + "\n")
    kept = Run(folder=folder, report=report, checkpoint_steps=checkpoint_steps)
    scoring = train_recipe(recipe, material, seed=order.seed, run=kept, steps=order.steps)
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{recipe.id}-{recipe.version}"
    with TemporaryDirectory(dir=out, prefix=".making-") as place:
        made = Path(place) / target.name
        made.mkdir()
        _fill(made, recipe, order, collection, scoring)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    return target


def _definition(recipe: Recipe) -> str:
    """A record in full, with those of its members, which are records of their own."""
    members = recipe.members.values() if isinstance(recipe, EnsembleRecord) else ()
    parts = [recipe, *(member.method(recipe.input) for member in members)]
    return "\n".join(part.model_dump_json() for part in parts)


def _fill(folder: Path, recipe: Recipe, order: Order, collection: Collection, scoring: Scoring) -> None:
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
            body_parts=data.body_parts,
            age_years=(0, 130),
            accepts_contrast=True,
            accepts_lossy=False,
        ),
        input=collection.contract,
        outputs=session.outputs,
        study=recipe.score.study if isinstance(recipe, MethodRecord) else recipe.study,
        half_precision=agrees_in_half(scoring, _sample(collection)),
        training=_provenance(recipe, order, collection),
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


def _sample(collection: Collection) -> Batch:
    """A few pictures of calibration people."""
    pictures = collection.of_role("calibration")
    pool = pool_of(collection.arrays(pictures[:: max(1, len(pictures) // HALF_SAMPLE)][:HALF_SAMPLE]))
    return pool.take(torch.arange(len(pool)))


def _provenance(recipe: Recipe, order: Order, collection: Collection) -> Training:
    counts = {
        role: len({picture.patient for picture in collection.of_role(role)})
        for role in ("train", "selection", "calibration")
    }
    return Training(
        record=f"{recipe.id}.yaml",
        record_sha256=hashlib.sha256(_definition(recipe).encode()).hexdigest(),
        seed=order.seed,
        data=collection.name,
        data_licence=collection.description.licence,
        subjects=counts,
        software={
            "python": platform.python_version(),
            "onnxruntime": VERSION,
            **{name: version(name) for name in ("torch", "onnx", "numpy", "scikit-learn")},
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


def train_recipe(
    recipe: Recipe, material: Material, *, seed: int, run: Run, steps: int | None = None
) -> Scoring:
    """A trained method, or every member of an ensemble trained and joined."""
    if isinstance(recipe, MethodRecord):
        return train(
            shortened(recipe, steps),
            material.train,
            material.toys,
            seed=seed,
            marked=material.marked,
            run=run,
        ).head
    heads = []
    for number, (name, member) in enumerate(recipe.members.items()):
        method = shortened(member.method(recipe.input), steps)
        for repeat in range(member.seeds):
            own = SEED_STRIDE * (16 * number + repeat) + seed
            part = run.part(f"{name}-{repeat}")
            heads.append(
                (
                    member,
                    train(
                        method, material.train, material.toys, seed=own, marked=material.marked, run=part
                    ).head,
                )
            )
    joined = Ensemble(recipe, heads)
    joined.fit(material.selection.chunks)
    return joined.eval()


def shortened(record: MethodRecord, steps: int | None) -> MethodRecord:
    """The same method with so many steps in every stage."""
    if steps is None:
        return record
    stages = tuple(stage.model_copy(update={"steps": steps}) for stage in record.stages)
    return record.model_copy(update={"stages": stages})

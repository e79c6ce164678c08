"""``vigil models``: train, evaluate, export, verify."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dicom_node.reader import list_series, read_volume
from models.artefact import NETWORK, PictureArtefact, load_artefact
from models.catalogue import list_artefacts
from models.errors import ArtefactError, DatasetError, ModelError
from models.predictor import load_predictor
from models.runtime import Session, random_operators
from models.volume import Volume

EXIT_FAILED = 1
MAX_VOXELS = 2**28  # Of one series of a training folder.

models_app = typer.Typer(help="Train, evaluate, export and verify models.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="Data folder, described by its name or by its manifest.csv.")]
Out = Annotated[Path, typer.Option(help="Parent of the artefact folder.")]
Task = Annotated[str | None, typer.Option(help="Which classes are normal, where the data has several tasks.")]


class Told(Protocol):
    """Told of a stage, a step, and the steps of the stage."""

    def __call__(self, stage: str, step: int, steps: int) -> None:
        """Take note."""


@models_app.command("train")
def train_model(
    record: Annotated[str, typer.Argument(help="Record file, or the id of a shipped record.")],
    data: Folder,
    out: Out,
    seed: int = 0,
    task: Task = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every stage: for a quick look.")] = None,
    fresh: Annotated[bool, typer.Option(help="Start again instead of going on from a killed run.")] = False,
) -> None:
    """Train the method a record defines and export it as an artefact folder.

    A run that was killed goes on from its last checkpoint when the same command is given again.
    """
    # Needs torch: the extra "making".
    from models.making import is_volume_record, train_artefact, train_pictures

    if is_volume_record(record):
        print(train_artefact(Path(record), data, out, seed, _say))  # noqa: T201 - a command line prints
        return
    with _progress() as told:
        made = train_pictures(
            record,
            data,
            out,
            seed,
            task=task,
            steps=steps,
            fresh=fresh,
            report=told,
            read_folder=_read_series,
        )
    print(made)  # noqa: T201 - a command line prints


@models_app.command("export")
def export_model(
    record: Annotated[str, typer.Argument(help="Record of a training that is done.")],
    data: Folder,
    out: Out,
    seed: int = 0,
    task: Task = None,
) -> None:
    """Write the artefact of a finished training again, from its checkpoints below OUT/runs."""
    train_model(record, data, out, seed, task)


@models_app.command("evaluate")
def evaluate_models(
    artefact: Annotated[list[Path], typer.Option()],
    data: Folder,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    report: Annotated[Path | None, typer.Option()] = None,
    seed: int = 0,
    task: Task = None,
) -> None:
    """Score artefacts on a data folder's rows of any split but train."""
    is_of_pictures = [isinstance(load_artefact(path), PictureArtefact) for path in artefact]
    if any(is_of_pictures) and not all(is_of_pictures):
        raise DatasetError("models of pictures and of volumes are evaluated apart; give one kind")
    if all(is_of_pictures):
        # Needs scikit-learn and matplotlib: the extra "evaluation".
        from models.evaluation.pictures import evaluate_pictures, write_picture_report

        result = evaluate_pictures(artefact, data, seed, task)
    else:
        from models.evaluation.protocol import evaluate

        result = evaluate(artefact, data, seed)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n")
    if report is not None and all(is_of_pictures):
        write_picture_report(result, report)
    elif report is not None:
        from models.evaluation.report import write_report

        write_report(result, report)
    if json_file is None and report is None:
        print(json.dumps(result, indent=1, default=str))  # noqa: T201 - a command line prints


@models_app.command("card")
def show_card(artefact: Path) -> None:
    """Print an artefact's model card."""
    found = load_artefact(artefact)
    print((found.path / "MODEL_CARD.md").read_text(encoding="utf-8"))  # noqa: T201 - a command line prints


@models_app.command("verify")
def verify_models(artefact: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    """Check every byte of artefacts, load them and run them; the shipped ones unless some are given."""
    failed = False
    for path in artefact or list_artefacts():
        try:
            _verify(path)
        except ModelError as error:
            failed = True
            print(f"{path.name}: {error}")  # noqa: T201 - a command line prints
        else:
            print(f"{path.name}: ok")  # noqa: T201 - a command line prints
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _verify(path: Path) -> None:
    """Hashes, no randomness, one answer for one picture whatever its batch.

    Raises
    ------
    ArtefactError
        Names the file and what is wrong with it.
    """
    found = load_artefact(path)
    if random_operators(path / NETWORK):
        raise ArtefactError(path / NETWORK, "draws random numbers; export it again")
    load_predictor(found)
    if not isinstance(found, PictureArtefact):
        return
    session = Session(path / NETWORK, providers=("CPUExecutionProvider",))
    contract = found.manifest.input
    rng = np.random.default_rng(0)
    x = rng.random((3, contract.network_channels, *contract.size), dtype=np.float32)
    feeds = {"x": x, "mask": np.ones((3, 1, *contract.size), np.float32), "position": np.zeros(3, np.float32)}
    together, again = session.run(feeds), session.run(feeds)
    alone = session.run({name: values[:1] for name, values in feeds.items()})
    for name, values in together.items():
        if values.tobytes() != again[name].tobytes():
            raise ArtefactError(path / NETWORK, f"gives another {name} each time")
        largest = max(float(np.abs(values).max()), 1e-12)
        if np.quantile(np.abs(values[:1] - alone[name]) / largest, 0.999) > 1e-4:  # noqa: PLR2004 - parity
            raise ArtefactError(path / NETWORK, f"gives a picture's {name} by what is beside it")


def _read_series(folder: Path) -> Volume:
    """The largest readable series of a folder of DICOM files.

    Raises
    ------
    DatasetError
        If there is none.
    """
    series = [found for found in list_series(sorted(folder.rglob("*"))) if found.reason is None]
    if not series:
        raise DatasetError(f"{folder.name}: no DICOM series that can be read as slices or a volume")
    return read_volume(max(series, key=lambda found: len(found.paths)), max_voxels=MAX_VOXELS)


@contextmanager
def _progress() -> Iterator[Told]:
    """A bar with the time left on standard error; a line now and then where that is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bars: dict[str, int] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def told(stage: str, step: int, steps: int) -> None:
            if not console.is_terminal and (step == steps or step % max(1, steps // 10) == 0):
                _say(f"{stage}: step {step} of {steps}")
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=steps)
            progress.update(progress.task_ids[bars[stage]], completed=step)

        yield told


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a command line prints

"""``vigil models``: train, export, evaluate, verify and list."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.errors import DatasetError, ModelError, NotAssessableError, RecordError
from service import terminal
from service.errors import TriageError
from service.terminal import EXIT_FAILED

if TYPE_CHECKING:
    from models.volume import Volume

MAX_VOXELS = 2**28  # Of one series of a training folder.

models_app = typer.Typer(help="Train, export, evaluate, verify and list models.", no_args_is_help=True)

Record = Annotated[str, typer.Argument(help="Record file, or the id of a shipped record.")]
Folder = Annotated[Path, typer.Option(help="Data folder, described by its name or by its manifest.csv.")]
Out = Annotated[Path, typer.Option(help="Parent of the artefact folder.")]
Task = Annotated[str | None, typer.Option(help="Which classes are normal, where the data has several tasks.")]


class Told(Protocol):
    """Told of a stage, a step, and the steps of the stage."""

    def __call__(self, stage: str, step: int, steps: int) -> None:
        """Take note."""


@models_app.command("train")
def train_model(
    record: Record,
    data: Folder,
    out: Out,
    seed: int = 0,
    task: Task = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of every stage: for a quick look.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Start again, or go on from a killed run.")
    ] = False,
) -> None:
    """Train the method a record defines and export it as an artefact folder.

    A run that was killed goes on from its last checkpoint when the same command is given again.
    """
    with _extra("making"):
        from models.making import is_volume_record, record_path, train_artefact, train_pictures

    if is_volume_record(record):
        if fresh or steps is not None or task is not None:
            raise RecordError(f"{record}: --task, --steps and --fresh are for records of pictures")
        terminal.out(train_artefact(record_path(record), data, out, seed, terminal.say))
        return
    with _quiet(), _progress() as told:
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
    terminal.out(made)


@models_app.command("export")
def export_model(
    run: Annotated[Path, typer.Argument(help="Folder of a training, below OUT/runs.")],
    out: Out,
    data: Annotated[Path | None, typer.Option(help="Its data folder, where that has moved.")] = None,
) -> None:
    """Write the artefact of a training again, from its checkpoints."""
    with _extra("making"):
        from models.making import export_run
    with _quiet(), _progress() as told:
        made = export_run(run, out, data=data, read_folder=_read_series, report=told)
    terminal.out(made)


@models_app.command("evaluate")
def evaluate_models(
    artefact: Annotated[list[Path], typer.Option(help="Artefact folder; give several to compare seeds.")],
    data: Folder,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of all rows.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder of tables and figures.")] = None,
    seed: int = 0,
    task: Task = None,
) -> None:
    """Score artefacts on a data folder's rows of any split but train."""
    from models.artefact import PictureArtefact, load_artefact

    is_of_pictures = {isinstance(load_artefact(path), PictureArtefact) for path in artefact}
    if len(is_of_pictures) > 1:
        raise DatasetError("models of pictures and of volumes are evaluated apart; give one kind")
    for place in (json_file, report):
        if place is not None:  # an hour of scoring must not end on a missing folder
            place.parent.mkdir(parents=True, exist_ok=True)
    result = (_evaluate_pictures if is_of_pictures == {True} else _evaluate_volumes)(
        artefact, data, seed, task, report
    )
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if json_file is None and report is None:
        terminal.out(json.dumps(result, indent=1))


def _evaluate_pictures(
    artefacts: list[Path], data: Path, seed: int, task: str | None, report: Path | None
) -> dict[str, object]:
    with _extra("evaluation"):
        from models.evaluation.picture_report import write_picture_report
        from models.evaluation.pictures import evaluate_pictures

        result = evaluate_pictures(artefacts, data, seed, task, read_folder=_read_series)
        if report is not None:
            write_picture_report(result, report)
    return result


def _evaluate_volumes(
    artefacts: list[Path], data: Path, seed: int, task: str | None, report: Path | None
) -> dict[str, object]:
    from models.evaluation.protocol import evaluate
    from models.evaluation.report import write_report

    if task is not None:
        raise DatasetError(f"{data.name} has no tasks; leave --task out")
    result = evaluate(artefacts, data, seed)
    if report is not None:
        write_report(result, report)
    return result


@models_app.command("card")
def show_card(artefact: Path) -> None:
    """Print an artefact's model card."""
    from models.artefact import CARD, load_artefact

    terminal.out((load_artefact(artefact).path / CARD).read_text(encoding="utf-8"))


@models_app.command("verify")
def verify_models(artefact: Annotated[list[Path] | None, typer.Argument()] = None) -> None:
    """Check every byte of artefacts, load them and run them; the shipped ones unless some are given."""
    from models.catalogue import list_artefacts
    from models.verification import verify_artefact

    failed = False
    for path in artefact or list_artefacts():
        try:
            found = verify_artefact(path)
        except ModelError as error:
            failed = True
            terminal.out(f"{path.name}: {error}")
        else:
            terminal.out(
                f"{path.name}: ok, {found.manifest.name} {found.manifest.version}, {found.sha256[:16]}"
            )
    if failed:
        raise typer.Exit(EXIT_FAILED)


@models_app.command("list")
def list_models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Print every shipped record: what it is, and on which data its results are committed."""
    from models.catalogue import list_records
    from models.evaluation.results import read_results

    measured: dict[str, set[str]] = {}
    for result in read_results():
        measured.setdefault(result.record, set()).add(result.data)
    rows: list[dict[str, str | list[str]]] = [
        {
            "record": record.id,
            "family": record.family,
            "covers": list(record.covers),
            "title": record.title,
            "measured_on": sorted(measured.get(record.id, ())),
        }
        for record in list_records()
    ]
    if as_json:
        terminal.out(json.dumps({"records": rows}, indent=1))
        return
    table = Table("record", "family", "covers", "title", "measured on")
    for row in rows:
        cells = (", ".join(value) if isinstance(value, list) else value for value in row.values())
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)


def _read_series(folder: Path) -> "Volume":
    """The largest readable series of a folder of DICOM files.

    Raises
    ------
    DatasetError
        If there is none, or its pixels are no volume.
    """
    from dicom_node.reader import list_series, read_volume

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    series = [found for found in list_series(files) if found.reason is None]
    if not series:
        raise DatasetError(f"{folder.name}: no DICOM series that is one stack of slices; leave the row out")
    try:
        return read_volume(max(series, key=lambda found: len(found.paths)), max_voxels=MAX_VOXELS)
    except NotAssessableError as error:
        raise DatasetError(f"{folder.name}: {error.detail} Leave the row out.") from error


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Imports that need an extra of the package; says which where it is not installed.

    Raises
    ------
    TriageError
        With the remedy.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise TriageError(
            f"{error.name} is not installed here. Run this as ./vigil in a checkout, or install "
            f"'vigil-triage[{name}]'."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries say of themselves, their products and their next versions off the progress bar."""
    for name in ("lightning.pytorch", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        yield


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
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def told(stage: str, step: int, steps: int) -> None:
            if not console.is_terminal and (step == steps or step % max(1, steps // 10) == 0):
                terminal.say(f"{stage}: step {step} of {steps}")
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=steps)
            progress.update(bars[stage], completed=step)

        yield told

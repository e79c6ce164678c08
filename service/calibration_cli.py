"""``vigil models calibrate | coverage``: reference groups of a site, and whether they hold."""

import secrets
from contextlib import closing
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from models.errors import DatasetError
from models.groups import ALIKE
from service.peers_cli import PeersFile
from service.places import make_data_folder
from service.settings import Settings
from service.terminal import AsJson, Data, begin, out, out_json, say

if TYPE_CHECKING:
    from models.predictor import AnyPredictor
    from service.calibrating import Gathered

MAX_VOXELS = 2**28  # Of one series.
SCANNER = ("manufacturer", "model_name")
SEED = 0
COHORTS = 1000
LIST_RATE = 0.1  # Of false discoveries.
Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="A day, included: of arrival, with --from of the study."),
]
Artefact = Annotated[Path | None, typer.Option(help="Artefact folder. Unset: the shipped model.")]


def calibrate_model(
    out_file: Annotated[Path, typer.Option("--out", help="File of the new document; never overwritten.")],
    author: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Annotated[str, typer.Option(help="Why it is made.")],
    folder: Annotated[
        Path | None, typer.Argument(help="DICOM studies without a finding, at any depth.")
    ] = None,
    received: Annotated[
        bool,
        typer.Option("--received", help="Instead: studies that the model in service scored as they came."),
    ] = False,
    archive: Annotated[
        str | None, typer.Option("--from", help="Instead: an archive, by its name in the peers file.")
    ] = None,
    since: Day = None,
    until: Day = None,
    modality: Annotated[str, typer.Option(help="With --from: of the studies.")] = "MR",
    first: Annotated[int, typer.Option(min=1, help="Of --received and --from: at most so many.")] = 200,
    artefact: Artefact = None,
    site: Annotated[str, typer.Option(help="What the site calls itself; as VIGIL_SITE.")] = "",
    replaces: Annotated[Path | None, typer.Option(help="The document before it.")] = None,
    least: Annotated[int, typer.Option(min=1, help="Studies a group needs to speak for itself.")] = 50,
    pixel_rate: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Normals that may show any highlighted region.")
    ] = 0.05,
    by_scanner: Annotated[
        bool,
        typer.Option(help="A scanner without studies here stays uncalibrated."),
    ] = False,
    data: Data = None,
    peers: PeersFile = None,
    as_json: AsJson = False,
) -> None:
    """Write reference studies, by group, as a calibration document; nothing is in force by it.

    They are those of a folder or of an archive, which are scored now, or those that came and were scored.
    """
    from models.documents import CalibrationDocument, read_document, strata_of, write_document

    if sum((folder is not None, received, archive is not None)) != 1:
        raise DatasetError("say which studies: a FOLDER, --received or --from PEER, and one of them alone")
    if out_file.exists():
        raise DatasetError(f"{out_file.name} exists; a document is never changed, give another name")
    before = None if replaces is None else read_document(replaces)
    if received:
        model_sha256, found = _received(data, first, since, until)
    else:
        predictor = _predictor(artefact)
        model_sha256 = predictor.identity.sha256
        if folder is not None:
            found = _scored(folder, predictor, site)
        else:
            found = _fetched(
                begin(data=data, peers=peers), str(archive), predictor, site, first, since, until, modality
            )
    if not found.studies:
        raise DatasetError(f"no study can be taken: {_reasons(found.left_out)}")
    document = CalibrationDocument(
        version=1 if before is None else before.version + 1,
        model_sha256=model_sha256,
        made_on=date.today(),  # noqa: DTZ011 - the calendar day where it was made
        author=author,
        reason=reason,
        replaces=None if before is None else before.sha256,
        least=least,
        alike=(*ALIKE, *SCANNER) if by_scanner else ALIKE,
        pixel_rate=pixel_rate,
        strata=strata_of(found.studies),
    )
    write_document(out_file, document)
    groups = [{"group": stratum.group.label, "n": len(stratum.scores)} for stratum in document.strata]
    if as_json:
        out_json(
            {
                "sha256": document.sha256,
                "version": document.version,
                "model_sha256": document.model_sha256,
                "groups": groups,
                "left_out": dict(found.left_out),
            }
        )
        return
    table = Table("group", "studies")
    for row in groups:
        table.add_row(str(row["group"]), str(row["n"]))
    Console().print(table)
    if found.left_out:
        out(f"left out: {_reasons(found.left_out)}")
    out(f"{out_file.name}: version {document.version}, {document.sha256[:16]}")


def _predictor(artefact: Path | None) -> "AnyPredictor":
    from models.artefact import load_artefact
    from models.catalogue import active_artefact
    from models.predictor import load_predictor

    return load_predictor(active_artefact() if artefact is None else load_artefact(artefact))


def _scored(folder: Path, predictor: "AnyPredictor", site: str) -> "Gathered":
    from service.calibrating import gather

    return gather(
        folder, predictor, site=site, max_voxels=MAX_VOXELS, told=lambda number: say(f"study {number}")
    )


def _received(
    data: Path | None, first: int, since: datetime | None, until: datetime | None
) -> tuple[str, "Gathered"]:
    from service import wiring
    from service.calibrating import received

    settings = begin(data=data)
    model_sha256 = wiring.model_identity(settings).sha256
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        found = received(
            session,
            model_sha256,
            most=first,
            received_from=since.astimezone() if since else None,
            received_to=until.astimezone() + timedelta(days=1) if until else None,
        )
    return model_sha256, found


def _fetched(
    settings: Settings,
    name: str,
    predictor: "AnyPredictor",
    site: str,
    first: int,
    since: datetime | None,
    until: datetime | None,
    modality: str,
) -> "Gathered":
    from dicom_node.spool import Spool
    from service import reception
    from service.calibrating import fetch

    if since is None or until is None:
        raise DatasetError("--from needs --since and --until: the days of the studies")
    archive = reception.open_peers(settings).named(name)
    make_data_folder(settings.data)
    with TemporaryDirectory(prefix="calibrate-", dir=settings.data) as folder:
        failed = fetch(
            archive,
            Spool(
                Path(folder), secrets.token_bytes(32), free_mark_bytes=settings.free_mark_mb * reception.MB
            ),
            settings,
            first=since.date(),
            last=until.date(),
            modality=modality,
            most=first,
            told=lambda number: say(f"fetched {number}"),
        )
        found = _scored(Path(folder), predictor, site)
    found.left_out.update({"not_fetched_whole": failed} if failed else {})
    return found


def show_coverage(
    data: Annotated[
        Path | None, typer.Option(help="Data folder with normals; unset: simulated groups alone.")
    ] = None,
    artefact: Artefact = None,
    task: Annotated[str | None, typer.Option(help="Where the data has several.")] = None,
    reference: Annotated[
        int | None,
        typer.Option(min=2, help="Studies of each. Unset: half of the normals, at most 199."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a calibration flags as many normals as it says: on simulated groups and on real normals."""
    from models.evaluation import coverage

    rows: list[dict[str, Any]] = [asdict(row) | {"holds": row.holds} for row in coverage.simulated_coverage()]
    lists = coverage.cohort_discoveries(
        cohorts=COHORTS, studies=200, prevalence=0.1, reference=1000, shift=3.0, q=LIST_RATE, seed=SEED
    )
    if data is not None:
        normals = _normals(data, artefact, task)
        size = reference or min(199, len(normals.all) // 2)
        for alpha in coverage.ALPHAS:
            if alpha * (size + 1) >= 1:
                row, inside = coverage.repeated_splits(
                    normals.name, normals.all, alpha, reference=size, seed=SEED
                )
                rows.append(asdict(row) | {"holds": row.holds, "splits_inside": inside})
            if len(normals.reference) and alpha * (len(normals.reference) + 1) >= 1:
                name = f"{normals.name}, as split"
                row = coverage.one_split(name, normals.reference, normals.others, alpha)
                rows.append(asdict(row) | {"holds": row.holds})
        if len(normals.maxima) == len(normals.all):
            name = f"{normals.name}, any highlighted"
            row = coverage.highlighted(name, normals.maxima, 0.1, reference=size, seed=SEED)
            rows.append(asdict(row) | {"holds": row.holds})
    if as_json:
        out_json({"rows": rows, "lists": asdict(lists) | {"q": LIST_RATE, "cohorts": COHORTS}})
    else:
        _print(rows)
        out(
            f"Benjamini-Hochberg lists of {COHORTS} simulated cohorts at q = {LIST_RATE:g}: "
            f"{lists.rate:.3f} of them normal (standard error {lists.error:.3f}), "
            f"{lists.power:.2f} of the abnormal studies on the list"
        )
    if lists.rate > LIST_RATE + 2 * lists.error or not all(row["holds"] for row in rows):
        raise typer.Exit(1)


def _normals(data: Path, artefact: Path | None, task: str | None) -> Any:
    from models.artefact import PictureArtefact, load_artefact
    from models.catalogue import active_artefact
    from models.evaluation.normals import picture_normals, volume_normals
    from models.images.predictor import PicturePredictor

    if task is not None and artefact is None:
        return picture_normals(None, data, task)
    loaded = active_artefact() if artefact is None else load_artefact(artefact)
    if isinstance(loaded, PictureArtefact):
        return picture_normals(PicturePredictor.load(loaded), data, task)
    return volume_normals(loaded, data)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table("normals", "alpha", "reference", "tested", "expected", "flagged", "95 % interval", "")
    for row in rows:
        table.add_row(
            row["data"],
            f"{row['alpha']:g}",
            str(row["reference"]),
            str(row["tested"]),
            f"{row['expected']:.4f}",
            f"{row['observed']:.4f}",
            f"{row['low']:.4f} to {row['high']:.4f}",
            "holds" if row["holds"] else "DOES NOT HOLD",
        )
    Console().print(table)


def _reasons(left_out: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(left_out.items())) or "it is empty"

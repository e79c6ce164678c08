"""``vigil screen`` and ``vigil cohorts``: a cohort in, a ranked table and a report out."""

import signal
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.peer import Pull
from service.settings import Settings
from service.store import Store
from service.store.cohorts import Cohort
from service.store.objects import LocalObjects
from service.terminal import AsJson, Data, begin, out, out_json, say

EXIT_STOPPED = 130  # as a shell has it after Ctrl-C

Out = Annotated[
    Path, typer.Option("--out", help="Folder for the tables and the report; made if it is missing.")
]
Pictures = Annotated[int, typer.Option(min=0, max=480, help="Most unusual studies on the heatmap sheets.")]

cohorts_app = typer.Typer(help="Screened cohorts: which there are, their reports.", no_args_is_help=True)


def screen(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of DICOM files; or the address of a DICOMweb search (.../studies?...); or a file "
            "with accession numbers or Study Instance UIDs, with --from."
        ),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the tables and the report.")],
    q: Annotated[float, typer.Option(min=0.001, max=0.5, help="False-discovery rate of the list.")] = 0.1,
    name: Annotated[str, typer.Option(help="What the report calls it. Another name is another cohort.")] = (
        "cohort"
    ),
    peer: Annotated[str | None, typer.Option("--from", help="Peer that a list is fetched from.")] = None,
    way: Annotated[Pull, typer.Option(help="C-GET into the spool, or C-MOVE to the node.")] = Pull.GET,
    authorization: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="File with the HTTP header Authorization of a DICOMweb search."
        ),
    ] = None,
    pictures: Pictures = 48,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Score every study of a cohort and write a ranked table and a report. Run again, it goes on."""
    from service.screening.progress import Bars
    from service.screening.run import Screening, Source

    settings = begin(data=data, log_level="WARNING")
    stop = threading.Event()

    def request(_: int, __: FrameType | None) -> None:
        if not stop.is_set():
            say("Stopping after the studies in hand. The same command goes on where this ends.")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request)
    told: dict[str, Any] = {}
    with Bars(Console(stderr=True)) as bars:
        screening = Screening(
            settings=settings,
            source=Source(given=source, peer=peer, way=way, authorization=authorization),
            name=name,
            q=q,
            stop=stop,
            watcher=bars,
            report=lambda store, cohort: told.update(_report(settings, store, cohort, out_folder, pictures)),
        )
        ended = screening.run()
    if ended is None:
        sys.exit(EXIT_STOPPED)
    _tell(told, out_folder, as_json=as_json)


@cohorts_app.command("list")
def list_cohorts(data: Data = None, as_json: AsJson = False) -> None:
    """Print every cohort with how far it is."""
    from service import wiring
    from service.store import cohorts

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        found = [(one, cohorts.progress(session, one.id)) for one in cohorts.every(session)]
    if as_json:
        rows = [
            {
                "id": one.id,
                "name": one.name,
                "state": one.state.value,
                "q": one.q,
                "studies": progress.members,
                "left_out": progress.left_out,
                **{state.value: count for state, count in progress.ended.items()},
            }
            for one, progress in found
        ]
        out_json({"cohorts": rows})
        return
    table = Table("id", "name", "state", "q", "studies", "ended", "left out")
    for one, progress in found:
        table.add_row(
            str(one.id),
            one.name,
            one.state.value,
            f"{one.q:g}",
            str(progress.members),
            str(sum(progress.ended.values())),
            str(progress.left_out),
        )
    Console().print(table)


@cohorts_app.command("report")
def report_cohort(
    cohort: int, out_folder: Out, pictures: Pictures = 48, data: Data = None, as_json: AsJson = False
) -> None:
    """Write tables and report of a cohort as it stands now, also while it is being screened."""
    from service import wiring
    from service.store import cohorts

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        with store.transaction() as session:
            found = cohorts.one(session, cohort)
        _tell(_report(settings, store, found, out_folder, pictures), out_folder, as_json=as_json)


@cohorts_app.command("export")
def export_cohort(
    cohort: int,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the export; new, or empty.")],
    maps: Annotated[int, typer.Option(min=0, help="Heatmaps of so many of the most unusual studies.")] = 1000,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write tables and heatmaps of a cohort under fresh pseudonyms: no keys, UIDs, dates, texts or pixels."""
    from service import wiring
    from service.screening.export import Exporter
    from service.store import cohorts

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        with store.transaction() as session:
            found = cohorts.one(session, cohort)
        done = Exporter(store=store, objects=_objects(settings), folder=out_folder, maps=maps).write(
            found, actor="cli"
        )
    if as_json:
        out_json({"cohort": cohort, "studies": done.studies, "maps": done.maps, "folder": str(out_folder)})
        return
    out(f"{done.studies} studies and {done.maps} heatmaps under fresh pseudonyms: {out_folder}")


def _objects(settings: Settings) -> LocalObjects:
    from service.stored import open_object_store, open_results, open_scratch

    return open_results(settings, open_object_store(settings), open_scratch(settings))


def _report(settings: Settings, store: Store, cohort: Cohort, folder: Path, pictures: int) -> dict[str, Any]:
    from service.screening.report import Reporter

    reporter = Reporter(store=store, objects=_objects(settings), folder=folder, pictures=pictures)
    summary = reporter.write(cohort)
    return {
        "cohort": cohort.id,
        "studies": summary.members,
        **{state: summary.outcomes[state] for state in ("scored", "not_assessable", "failed", "left_out")},
        "pending": summary.outcomes["pending"],
        "reasons": {outcome: dict(sorted(codes.items())) for outcome, codes in summary.reasons.items()},
        "q": cohort.q,
        "on_list": summary.on_list,
    }


def _tell(told: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    if as_json:
        out_json({**told, "report": str(folder / "report.html")})
        return
    pending = f", {told['pending']} have not ended" if told["pending"] else ""
    out(
        f"{told['studies']} studies: {told['scored']} scored, {told['not_assessable']} not assessable, "
        f"{told['failed']} failed, {told['left_out']} could not be had{pending}; "
        f"{told['on_list']} on the list at q = {told['q']:g}. "
        f"Cohort {told['cohort']}, report: {folder / 'report.html'}"
    )

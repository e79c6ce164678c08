"""``vigil feedback``: what readers said, counted."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.terminal import AsJson, Data, begin, out, out_json, say

if TYPE_CHECKING:
    from service.lifetimes import Median
    from service.reader_report import ReaderReport, Share, Value

feedback_app = typer.Typer(help="What readers said of studies: reports, export.", no_args_is_help=True)

Since = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Studies received from this day on; unset: the last 365 days."),
]
ModelHash = Annotated[str | None, typer.Option("--model", help="Hash of the only model to look at.")]


@feedback_app.command("report")
def report_feedback(
    since: Since = None, model: ModelHash = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Print predictive value, sensitivity among the read and time to read, with intervals."""
    from service import wiring
    from service.reader_report import read_report

    settings = begin(data=data)
    begun = None if since is None else since.astimezone()
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        report = read_report(session, now=datetime.now(UTC), since=begun, model=model)
    if as_json:
        out_json(asdict(report))
        return
    _print(report)


def _print(report: "ReaderReport") -> None:
    console = Console()
    say(
        f"{report.studies} studies since {report.since.astimezone():%Y-%m-%d}: {report.seen} seen, "
        f"{report.judged} judged ({report.disputed} disputed), {report.not_assessable} not assessable, "
        f"{report.failed} failed"
    )
    values = Table(
        "studies", "judged", "confirmed findings", "with other conditions", title="Predictive value"
    )
    for row in (
        report.overall,
        *report.at_or_below,
        *report.by_band,
        *report.by_model,
        *report.by_group,
        report.without_percentile,
    ):
        values.add_row(*_cells(row))
    console.print(values)
    found = Table("findings", "n", *(f"at or below {cut:g}" for cut, _ in report.sensitivity[0].cuts))
    found.title = "Sensitivity among read studies"
    for line in report.sensitivity:
        found.add_row(line.name, str(line.cuts[0][1].n), *(share_text(share) for _, share in line.cuts))
    console.print(found)
    times = Table("percentile", "studies", "seen", "median hours (95 %)", title="Time to read")
    for reading in report.time_to_read:
        times.add_row(reading.name, str(reading.studies), str(reading.seen), median_text(reading.hours))
    console.print(times)
    for text in report.definitions.values():
        say(text)


def _cells(row: "Value") -> tuple[str, ...]:
    return row.name, str(row.findings.n), share_text(row.findings), share_text(row.conditions)


def share_text(share: "Share") -> str:
    """A share with its interval in words; a dash where nothing was counted."""
    if share.share is None or share.low is None or share.high is None:
        return "-"
    few = ", few" if share.is_small else ""
    limits = f"{100 * share.low:.0f} to {100 * share.high:.0f}{few}"
    return f"{share.found} of {share.n}: {100 * share.share:.0f} % ({limits})"


def median_text(median: "Median") -> str:
    """A median with its interval in words; a dash where it lies beyond what was seen."""
    if median.value is None:
        return "-"
    high = "not reached" if median.high is None else f"{median.high:.1f}"
    low = "not reached" if median.low is None else f"{median.low:.1f}"
    return f"{median.value:.1f} ({low} to {high})"


@feedback_app.command("export")
def export_feedback(
    out_folder: Annotated[Path, typer.Option("--out", help="New folder of the files.")],
    since: Since = None,
    model: ModelHash = None,
    volumes: Annotated[
        bool, typer.Option(help="Write images and pseudo-labels too: a data folder for `vigil models train`.")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write what readers taught as files for training: pseudonymous, split by person."""
    from service import stored, teaching, wiring
    from service.reader_report import USUAL_DAYS
    from service.store import audit, jobs, verdicts

    settings = begin(data=data)
    begun = datetime.now(UTC) - timedelta(days=USUAL_DAYS) if since is None else since.astimezone()
    with closing(wiring.open_store(settings)) as store:
        with store.transaction() as session:
            taught = verdicts.taught(session, since=begun, model=model)
            audit.append(
                session, "feedback.exported", actor="operator", studies=len(taught), with_images=volumes
            )
        images = None
        if volumes:
            made = stored.open_volumes(settings)

            def volume(score_id: int, series: str) -> Iterable[bytes]:
                with store.transaction() as session:
                    job = jobs.as_read(session, score_id)
                return made.of(job, series).parts()

            images = teaching.Images(volume=volume, objects=stored.open_pictures(settings))
        taken = teaching.export(taught, out_folder, images=images)
    if as_json:
        out_json(asdict(taken))
        return
    out(f"{taken.studies} studies of {taken.people} people, {taken.volumes} volumes")
    say(f"with a pseudo-label: {taken.pseudo_labels}; left out of the manifest: {taken.left_out or 'none'}")

"""``vigil simulate``: time to read under three orders, before anybody's list is touched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.terminal import out_json, say

if TYPE_CHECKING:
    from service.simulation.comparison import Comparison, Figure


def simulate(
    per_hour: Annotated[float, typer.Option(min=0.01, help="Studies that arrive in an hour.")] = 10.0,
    readers: Annotated[int, typer.Option(min=1, help="Who read at the same time.")] = 2,
    reading_min: Annotated[float, typer.Option(min=0.01, help="Mean minutes to read a study.")] = 10.0,
    prevalence: Annotated[float, typer.Option(min=0, max=1, help="Share of abnormal studies.")] = 0.1,
    auroc: Annotated[float, typer.Option(help="Of an assumed model.")] = 0.8,
    scores: Annotated[
        Path | None, typer.Option(help="Scores of a real one: what `vigil models evaluate --json` wrote.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data in that file.")] = None,
    finding: Annotated[str | None, typer.Option(help="Of the abnormal studies in that file.")] = None,
    stat_share: Annotated[float, typer.Option(min=0, max=1, help="Share sent as STAT.")] = 0.02,
    unjudged_share: Annotated[float, typer.Option(min=0, max=1, help="Share not assessable.")] = 0.02,
    scoring_min: Annotated[float, typer.Option(min=0, help="Minutes from arrival to score.")] = 2.0,
    longest_h: Annotated[float, typer.Option(min=0, help="Hours after which a study is overdue.")] = 24.0,
    swing: Annotated[float, typer.Option(min=0, max=1, help="How far arrivals swing over the day.")] = 0.0,
    days: Annotated[float, typer.Option(min=0.1, help="Of each run.")] = 30.0,
    runs: Annotated[int, typer.Option(min=2)] = 20,
    seed: int = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Play a reading room through first-come, severity-oracle and Vigil orders: who waits how long."""
    # scipy's statistics take longer to load than every other command to run.
    from service.simulation.comparison import compare
    from service.simulation.studies import Department, Scores

    department = Department(
        per_hour=per_hour,
        swing=swing,
        reading_min=reading_min,
        readers=readers,
        prevalence=prevalence,
        stat_share=stat_share,
        unjudged_share=unjudged_share,
        scoring_min=scoring_min,
        longest_h=longest_h,
    )
    model = Scores.of_auroc(auroc) if scores is None else Scores.of_evaluation(scores, split, finding)
    found = compare(department, model, days=days, runs=runs, seed=seed)
    if as_json:
        out_json(found.as_dict())
        return
    if found.load >= 1:
        say("There is more to read than the readers can read: the list grows, and waits depend on --days.")
    Console().print(_table(found))


def _table(found: "Comparison") -> Table:
    table = Table(
        "studies",
        "order",
        "mean (95 %)",
        "median",
        "95th percentile",
        "worst",
        "sooner than first-come (95 %)",
        title=f"Hours until a study is read. {found.scores}; load {found.load:.2f}; "
        f"{found.runs} runs of {found.days:g} days",
    )
    for row in found.rows:
        table.add_row(
            row.kind,
            row.order,
            _interval(row.mean_h),
            f"{row.median_h.value:.2f}",
            f"{row.late_h.value:.2f}",
            f"{row.worst_h:.1f}",
            "" if row.order == "first-come" else _interval(row.saved_h),
        )
    return table


def _interval(figure: "Figure") -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"

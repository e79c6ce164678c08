"""Commands about studies: which there are, where each stands, and what a person does to one."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from service import orders_cli
from service.peers_cli import pack, pull
from service.records_cli import replay_study, show_record
from service.retention_cli import hold, release, waive
from service.terminal import AsJson, Data, begin, out_json, say

studies_app = typer.Typer(help="Studies: states, reasons, scores.", no_args_is_help=True)
studies_app.command("harm")(orders_cli.report_harm)
studies_app.command("pull")(pull)
studies_app.command("pack")(pack)
studies_app.command("hold")(hold)
studies_app.command("release")(release)
studies_app.command("waive")(waive)
studies_app.command("record")(show_record)
studies_app.command("replay")(replay_study)
studies_app.command("cancel")(orders_cli.cancel_study)
studies_app.command("park")(orders_cli.park_study)
studies_app.command("unpark")(orders_cli.unpark_study)
studies_app.command("prioritise")(orders_cli.prioritise_study)


@studies_app.command("list")
def list_studies(
    data: Data = None,
    limit: Annotated[int, typer.Option(min=1)] = 200,
    failed: Annotated[bool, typer.Option(help="What was given up instead, with its reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the worklist in its order."""
    from service import wiring
    from service.store.worklist import worklist

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        if failed:
            orders_cli.list_dead_letters(session, limit=limit, as_json=as_json)
            return
        listed = worklist(session, limit=limit, longest_unread_s=settings.longest_unread_s)
    if as_json:
        out_json(asdict(listed))
        return
    table = Table(
        "rank",
        "percentile",
        Column("state", overflow="fold"),  # a reason is not cut either
        Column("study", no_wrap=True),  # other commands take it: whole on every terminal
        "modality",
        "description",
        "model",
    )
    for row in listed.rows:
        raw = "" if row.raw_score is None else f", raw {row.raw_score:.3g}"
        table.add_row(
            "" if row.rank is None else str(row.rank),
            "" if row.percentile is None else f"{row.percentile:.1f}",
            f"{row.reason or row.state.value}{raw}{orders_cli.caveats(row)}",
            row.key,
            escape(row.modality),
            escape(row.description),
            f"{row.model.name} {row.model.version}" if row.model else "",
        )
    Console().print(table)
    if listed.total > len(listed.rows):
        say(f"{len(listed.rows)} of {listed.total} studies; --limit shows more")


@studies_app.command("show")
def show_study(key: str, data: Data = None, as_json: AsJson = False) -> None:
    """Print where a study stands and where its time went; with --json everything about it."""
    from service import wiring
    from service.store.detail import study_detail

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        detail = study_detail(session, key, longest_unread_s=settings.longest_unread_s)
    if as_json:
        out_json(asdict(detail))
    else:
        orders_cli.print_study(detail)

"""``vigil drift list | dismiss``: scanners under watch, and the end of a false alarm."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.orders_cli import ACTOR
from service.terminal import AsJson, Data, begin, out, out_json

MOST = 1000  # scanners

drift_app = typer.Typer(help="Scanners under watch: have their images changed?", no_args_is_help=True)


@drift_app.command("list")
def list_watches(
    data: Data = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those of models and calibrations before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print every scanner under watch, those without a percentile first."""
    from service import wiring
    from service.store import calibrations, watch_lists

    settings = begin(data=data)
    model = wiring.model_identity(settings).sha256
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        if every:
            found = watch_lists.listed(session)
        else:
            sha256 = calibrations.sha256_in_force(session, model)
            found = watch_lists.under(session, model, sha256, limit=MOST)
    if as_json:
        out_json({"watches": [asdict(one) for one in found]})
        return
    table = Table("number", "scanner", "studies", "evidence", "percentile", "moved")
    for one in found:
        percentile = f"withdrawn {one.alarmed_at:%Y-%m-%d %H:%M}" if one.alarmed_at else "holds"
        evidence = f"{min(one.evidence, 1):.3f}"
        table.add_row(
            str(one.id), escape(one.group), str(one.seen), evidence, percentile, ", ".join(one.alarms)
        )
    Console().print(table)
    out("An evidence of 1 withdraws the percentile. It comes back when the scanner is commissioned again.")


@drift_app.command("dismiss")
def dismiss_alarm(
    number: Annotated[int, typer.Argument(help="Of the scanner, as `vigil drift list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why it is a false alarm.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give the percentile back: the scanner was looked at, and its calibration holds."""
    from service import wiring
    from service.watching import dismiss

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        before = dismiss(session, number, actor=ACTOR, reason=reason)
    if as_json:
        out_json(asdict(before))
    else:
        out(f"{before.group}: the percentile holds again, and the watch begins anew")

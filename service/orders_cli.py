"""``vigil studies cancel | park | unpark | prioritise`` and ``vigil peers park | unpark``."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from sqlalchemy.orm import Session

from service.orders import Ordered
from service.store.detail import StudyDetail
from service.store.rows import WorklistRow
from service.study import Priority, State
from service.terminal import AsJson, Data, begin, out, out_json
from service.why import span

ACTOR = "operator"  # as the audit trail names who sits at this machine

PeersFile = Annotated[Path | None, typer.Option("--peers", help="YAML file of DICOM peers.")]


class Urgency(StrEnum):
    """Priorities as people write them."""

    SCREENING = "screening"
    ROUTINE = "routine"
    URGENT = "urgent"
    STAT = "stat"


def cancel_study(key: str, data: Data = None, as_json: AsJson = False) -> None:
    """End what of a study waits; `replay` takes it up again."""
    from service import orders

    _told(data, lambda session: orders.cancel(session, key, actor=ACTOR), "cancelled", as_json=as_json)


def park_study(key: str, data: Data = None, as_json: AsJson = False) -> None:
    """Put a study aside: received and kept, not scored, visible as such."""
    from service import orders

    _told(data, lambda session: orders.park(session, key, actor=ACTOR), "parked", as_json=as_json)


def unpark_study(key: str, data: Data = None, as_json: AsJson = False) -> None:
    """Let a parked study go on."""
    from service import orders

    _told(data, lambda session: orders.unpark(session, key, actor=ACTOR), "goes on", as_json=as_json)


def prioritise_study(key: str, priority: Urgency, data: Data = None, as_json: AsJson = False) -> None:
    """Make a study and its waiting jobs more urgent; never less."""
    from service import orders

    wanted = Priority[priority.name]
    _told(
        data,
        lambda session: orders.prioritise(session, key, wanted, actor=ACTOR),
        f"now {priority}",
        as_json=as_json,
    )


def park_peer(name: str, data: Data = None, peers: PeersFile = None, as_json: AsJson = False) -> None:
    """Let everything for a destination wait, without attempts."""
    from service import orders, reception

    reception.open_peers(begin(data=data, peers=peers)).named(name)
    _told(
        data, lambda session: orders.park_destination(session, name, actor=ACTOR), "parked", as_json=as_json
    )


def unpark_peer(name: str, data: Data = None, as_json: AsJson = False) -> None:
    """Let everything for a parked destination go on."""
    from service import orders

    _told(
        data,
        lambda session: orders.unpark_destination(session, name, actor=ACTOR),
        "goes on",
        as_json=as_json,
    )


def print_study(detail: StudyDetail) -> None:
    """Print where a study stands, and where its time went."""
    row = detail.row
    percentile = "" if row.percentile is None else f", percentile {row.percentile:.1f}"
    parked = ", parked" if row.is_parked else ""
    out(f"{row.key}: {row.state}{parked}{f' ({row.reason})' if row.reason else ''}{percentile}{caveats(row)}")
    table = Table("stage", "of", "ended", "seconds")
    for stage in detail.stages:
        at = stage.at.isoformat(sep=" ", timespec="milliseconds")
        table.add_row(stage.name, escape(stage.of), at, f"{stage.seconds:.3f}")
    Console().print(table)


def caveats(row: WorklistRow) -> str:
    """What a number of a study must not be read without, in codes; empty where there is nothing of it."""
    told = (
        "no score stands behind it" if row.state is State.SCORED and row.assessment is None else None,
        "more images arriving" if row.is_receiving and row.assessment else None,
        row.flag,
    )
    return "".join(f", {one}" for one in told if one)


def report_harm(
    data: Data = None,
    days: Annotated[float, typer.Option(help="How far back.", min=0.01, max=3660)] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Print whether the order of the list delayed a study past its turn; the exit code is 1 where it did."""
    from service import wiring
    from service.store import harm

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        found = harm.measure(
            session, now=datetime.now(UTC), longest_unread_s=settings.longest_unread_s, days=days
        )
    if as_json:
        out_json(asdict(found))
    else:
        limit = span(found.longest_unread_s)
        out(f"{found.studies} studies in {days:g} days, {found.seen} seen by a reader.")
        out(f"{found.overdue} overdue: seen by nobody for more than {limit}.")
        out(f"{found.delayed} delayed: waited more than {limit} while a later one was seen first.")
        out(f"{found.behind_orders} the same behind what was ordered as more urgent.")
    if found.delayed:
        raise typer.Exit(1)


def list_dead_letters(session: Session, *, limit: int, as_json: bool) -> None:
    """Print what was given up, newest first, with its reason."""
    from service.store.dead_letters import dead_letters
    from service.store.paging import Place

    letters = dead_letters(session, Place(of="dead letters", limit=limit)).items
    if as_json:
        out_json({"failed": [asdict(letter) for letter in letters]})
        return
    table = Table(Column("study", no_wrap=True), "what", "reason", "attempts", "ended")
    for letter in letters:
        ended = letter.ended_at.isoformat(timespec="seconds")
        table.add_row(letter.key, escape(letter.what), escape(letter.reason), str(letter.attempts), ended)
    Console().print(table)


def _told(data: Path | None, order: Callable[[Session], Ordered], done: str, *, as_json: bool) -> None:
    from service import wiring

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        ordered = order(session)
    if as_json:
        out_json(asdict(ordered))
    elif ordered.changed:
        out(f"{done}: {ordered.scores} scores, {ordered.deliveries} deliveries")
    else:
        out("nothing to change")

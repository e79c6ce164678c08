"""``vigil retention``, and ``vigil studies hold``, ``release``, ``waive``: what may go, and what went."""

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from service.terminal import AsJson, Data, Reason, begin, out, out_json

retention_app = typer.Typer(help="What is deleted, when, and the proof.", no_args_is_help=True)

ACTOR = "operator"
MOST_ROWS = 1000


@retention_app.command("report")
def report(data: Data = None, as_json: AsJson = False) -> None:
    """Print what is past its age and may go, what is kept all the same and why, and what went."""
    from service import wiring
    from service.store import keeping

    settings = begin(data=data)
    ages = wiring.retention_ages(settings)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        now = datetime.now(UTC)
        due, held = (
            keeping.past_age(session, ages, now=now, limit=MOST_ROWS, may_go=may_go)
            for may_go in (True, False)
        )
        gone = keeping.gone(session, limit=MOST_ROWS)
    if as_json:
        rules = {state.value: age.total_seconds() / 86400 for state, age in ages.items()}
        out_json(
            {
                "rules_days": rules,
                "due": [asdict(one) for one in due],
                "kept": [asdict(one) for one in held],
                "gone": [asdict(one) for one in gone],
            }
        )
        return
    table = Table(Column("study", no_wrap=True), "state", "bytes", "ended", "what")
    for one in (*due, *held):
        what = "may go" if one.why is None else f"kept: {one.why}"
        table.add_row(one.key, one.state.value, str(one.bytes), f"{one.ended_at:%Y-%m-%d %H:%M}", what)
    for lost in gone:
        when = f"{lost.deleted_at:%Y-%m-%d %H:%M}" if lost.deleted_at else ""
        table.add_row(lost.key, lost.state.value, "", "", f"{lost.bytes_are.value} {when}")
    Console().print(table)


@retention_app.command("run")
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go; delete nothing.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is due now, on the machine that holds the received files."""
    from service import reception, wiring

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        retention = wiring.open_retention(settings, store, reception.open_spool(settings))
        now = datetime.now(UTC)
        if dry_run:
            told: dict[str, object] = {"dry_run": True} | asdict(retention.foresee(now))
        else:
            told = asdict(retention.run(now))
    if as_json:
        out_json(told)
    else:
        out(", ".join(f"{name}: {value}" for name, value in told.items()))


def hold(key: str, reason: Reason, data: Data = None) -> None:
    """Forbid that a study is deleted, whatever its age: a legal hold."""
    _decide(key, data, "study.held", hold=reason)


def release(key: str, data: Data = None) -> None:
    """Take a hold back."""
    _decide(key, data, "study.released", hold=None)


def waive(key: str, reason: Reason, data: Data = None) -> None:
    """Take note of results not confirmed, or not taken back: no alert, and age may delete the study."""
    _decide(key, data, "study.waived", waived=reason)


def _decide(key: str, data: Path | None, action: str, **decided: str | None) -> None:
    """Store a person's decision and its audit row in one transaction."""
    from service import wiring
    from service.store import audit, keeping

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        if "waived" in decided:
            keeping.waive(session, key, decided["waived"] or "")
        else:
            keeping.hold(session, key, decided["hold"])
        audit.append(session, action, actor=ACTOR, study_key=key, **decided)
    out(f"{action.partition('.')[2]}: {key}")

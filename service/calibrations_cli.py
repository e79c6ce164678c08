"""``vigil calibrations``: what is in force, what is proposed, and the decision. Each on record."""

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.orders_cli import ACTOR
from service.study import CalibrationState, Origin
from service.terminal import AsJson, Data, begin, out, out_json

calibrations_app = typer.Typer(help="Calibrations: list, propose, accept, go back.", no_args_is_help=True)

SHORT = 8  # Characters of a hash.

Number = Annotated[int, typer.Argument(min=1, help="As `list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why it is decided so; stands in the audit trail.")]


@calibrations_app.command("list")
def list_calibrations(
    data: Data = None,
    state: Annotated[CalibrationState | None, typer.Option(help="Only these.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print every calibration there ever was, newest first."""
    from service import wiring
    from service.store import calibrations

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        found = calibrations.listed(session, state=state)
    if as_json:
        out_json({"calibrations": [asdict(one) for one in found]})
        return
    table = Table("id", "state", "version", "document", "from", "by and why")
    for one in found:
        table.add_row(
            str(one.id),
            one.state.value,
            str(one.version),
            one.sha256[:SHORT],
            one.origin.value,
            escape(f"{one.author}: {one.reason}"),
        )
    Console().print(table)


@calibrations_app.command("show")
def show_calibration(number: Number, data: Data = None, as_json: AsJson = False) -> None:
    """Print one calibration with its groups; with --json the document, as `propose` takes it, beside it."""
    from service import wiring
    from service.store import calibrations

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        found, document = calibrations.find(session, number)
    if as_json:
        written = document.model_dump(mode="json") | {"sha256": document.sha256}
        out_json({"calibration": asdict(found), "document": written})
        return
    out(f"{found.id}: version {found.version}, {found.state.value}, by {found.author}: {found.reason}")
    out(f"groups agree in {', '.join(document.alike)}; {document.least} studies are enough")
    table = Table("group", "studies")
    for stratum in document.strata:
        table.add_row(escape(stratum.group.label), str(len(stratum.scores)))
    Console().print(table)


@calibrations_app.command("propose")
def propose_calibration(
    file: Annotated[Path, typer.Argument(help="Document, as `vigil models calibrate` writes one.")],
    origin: Annotated[Origin, typer.Option(help="How its studies were chosen.")] = Origin.FILE,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Keep a document for a decision; nothing changes by it."""
    from models.documents import read_document
    from service import wiring
    from service.store import calibrations

    document = read_document(file)
    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        kept = calibrations.propose(session, document, origin=origin, actor=ACTOR)
    if as_json:
        out_json(asdict(kept))
        return
    out(f"{kept.id}: proposed; `vigil calibrations accept {kept.id} --reason ...` puts it in force")
    if kept.model_sha256 != wiring.model_identity(settings).sha256:
        out("It is of another model than the one in service, and says nothing of this one's studies.")


@calibrations_app.command("accept")
def accept_calibration(number: Number, reason: Reason, data: Data = None, as_json: AsJson = False) -> None:
    """Put a document in force for its model; the one before is retired."""
    from service import wiring
    from service.store import calibrations

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        now = calibrations.accept(session, number, actor=ACTOR, reason=reason)
    if as_json:
        out_json(asdict(now))
    else:
        out(f"{now.id}: in force; `vigil calibrations rescore` scores again what was uncalibrated")


@calibrations_app.command("refuse")
def refuse_calibration(number: Number, reason: Reason, data: Data = None, as_json: AsJson = False) -> None:
    """Say no to a proposal; it stays on record."""
    from service import wiring
    from service.store import calibrations

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        refused = calibrations.refuse(session, number, actor=ACTOR, reason=reason)
    if as_json:
        out_json(asdict(refused))
    else:
        out(f"{refused.id}: refused")


@calibrations_app.command("retire")
def retire_calibration(number: Number, reason: Reason, data: Data = None, as_json: AsJson = False) -> None:
    """Take what is in force out of it: the one before is in force again, at last the model's own."""
    from service import wiring
    from service.store import calibrations

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        now = calibrations.retire(session, number, actor=ACTOR, reason=reason)
    if as_json:
        out_json({"in_force": None if now is None else asdict(now)})
    elif now is None:
        out(f"{number}: retired; there was none before")
    else:
        out(f"{number}: retired; {now.id}, version {now.version}, is in force again")


@calibrations_app.command("rescore")
def rescore_uncalibrated(data: Data = None, as_json: AsJson = False) -> None:
    """Score again the uncalibrated studies for which there is a reference now."""
    from service import wiring
    from service.admission import Admission
    from service.commissioning import rescore_calibrated

    settings = begin(data=data)
    known, model = wiring.open_calibrations(settings), wiring.model_identity(settings).sha256
    admission = Admission(model_hash=lambda: model, config_digest=known.config_digest)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        done = rescore_calibrated(session, known, admission, actor=ACTOR)
    if as_json:
        out_json(asdict(done))
    else:
        out(f"{done.queued} queued, {done.left} without a reference")


@calibrations_app.command("look")
def look_for_proposals(data: Data = None, as_json: AsJson = False) -> None:
    """Propose a calibration now for a scanner with enough studies; the node looks every minute."""
    from service import wiring

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        proposal = wiring.open_commissioning(settings, store).propose(datetime.now(UTC))
    if as_json:
        out_json({"proposed": None if proposal is None else asdict(proposal)})
    elif proposal is None:
        out("nothing to propose")
    else:
        out(f"{proposal.id}: {proposal.reason}")

"""``vigil audit``: whether the audit trail is what it was."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.terminal import begin, out, out_json

audit_app = typer.Typer(help="The audit trail.", no_args_is_help=True)


@audit_app.callback()
def _group() -> None:
    """Keep the command's name, though there is one."""


@audit_app.command("verify")
def verify(
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="NUMBER:HASH of an earlier head, from the audit repository or a note. May be repeated."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of everything Vigil keeps.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Walk the audit trail; fail where it was changed, cut, or is not what the kept heads say."""
    from service import wiring, witness
    from service.store import audit
    from service.store.audit import AuditHead

    settings = begin(data=data)
    try:
        kept = [AuditHead.read(one) for one in head or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from None
    written = witness.read(settings.data)
    kept += [] if written is None else [written]
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        found = audit.verify(session, kept)
    if as_json:
        out_json({"intact": True, **asdict(found), "heads": len(kept)})
    else:
        compared = f", compared with {len(kept)} kept" if kept else "; no earlier head to compare with"
        out(f"intact: {found.number} rows, head {found}{compared}")

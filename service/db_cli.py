"""``vigil db``: the schema, and the index that DICOMweb searches."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from service.terminal import AsJson, Data, begin, out_json, say

db_app = typer.Typer(help="The database: its schema and its index.", no_args_is_help=True)


@db_app.command("upgrade")
def upgrade_database(data: Data = None) -> None:
    """Bring the database to this version's schema."""
    from service import wiring
    from service.store.migrations import upgrade

    with closing(wiring.open_any_store(begin(data=data))) as store:
        upgrade(store)


@db_app.command("downgrade")
def downgrade_database(
    to: Annotated[str, typer.Argument(help="Migration of the release to go back to, such as 0012.")],
    yes: Annotated[bool, typer.Option("--yes", help="What later releases added may be lost.")] = False,
    data: Data = None,
) -> None:
    """Take the schema back for an earlier release; make a backup first, and stop every role."""
    from service import wiring
    from service.store.migrations import downgrade

    if not yes:
        raise typer.BadParameter(
            "what later releases added goes with its rows; say --yes", param_hint="--yes"
        )
    with closing(wiring.open_any_store(begin(data=data))) as store:
        downgrade(store, to)
    say(f"The schema is that of {to}; start the release it belongs to.")


@db_app.command("index")
def index_database(data: Data = None, as_json: AsJson = False) -> None:
    """List what DICOMweb searches, for studies from before it did; run it once after an upgrade."""
    from service import stored, wiring
    from service.indexing import index

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        done = index(store, stored.open_holdings(settings, stored.open_pictures(settings)))
    if as_json:
        out_json(asdict(done))
    else:
        say(f"{done.listed} instances listed, {done.unreadable} cannot be read.")

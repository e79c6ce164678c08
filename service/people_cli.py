"""``vigil people`` and ``vigil tokens``: who may use the API and the pages."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.orm import Session

from service.access import Role
from service.errors import SettingsError
from service.settings import Settings
from service.terminal import Data, begin, out

ACTOR = "command line"

people_app = typer.Typer(help="People who may sign in.", no_args_is_help=True)
tokens_app = typer.Typer(help="Tokens of other systems.", no_args_is_help=True)


@people_app.command("invite")
def invite(
    role: Role,
    name: Annotated[str | None, typer.Option(help="Account that is to choose a new password.")] = None,
    data: Data = None,
) -> None:
    """Print a one-time link, for somebody new or for a new password."""
    from service.site_address import page_address, takes_passwords
    from service.store import people

    settings = begin(data=data)
    if not takes_passwords(settings):
        raise SettingsError(
            "The file of the identity provider says passwords: false, so a link opens nothing. Put the person"
            " into a group that its roles name."
        )
    with _session(settings) as session:
        secret = people.invite(session, role, actor=ACTOR, name=name)
    out(f"{page_address(settings)}{people.welcome_path(secret)}")


@people_app.command("list")
def list_people(data: Data = None) -> None:
    """Print every account."""
    from service.store import people

    table = Table("name", "role", "since", "")
    with _session(begin(data=data)) as session:
        for one in people.accounts(session):
            table.add_row(
                escape(one.name),
                one.role.value,
                f"{one.created_at:%Y-%m-%d}",
                "" if one.is_active else "ended",
            )
    Console().print(table)


@people_app.command("role")
def change_role(name: str, role: Role, data: Data = None) -> None:
    """Give an account another role."""
    from service.store import people

    with _session(begin(data=data)) as session:
        people.change_role(session, name, role, actor=ACTOR)


@people_app.command("end")
def end(name: str, data: Data = None) -> None:
    """End an account and its sessions at once."""
    from service.store import people

    with _session(begin(data=data)) as session:
        people.end_account(session, name, actor=ACTOR)


@tokens_app.command("make")
def make_token(
    name: str,
    role: Annotated[Role, typer.Option(help="What the token may do.")] = Role.SERVICE,
    days: Annotated[int | None, typer.Option(min=1, help="Days it holds. Unset: until revoked.")] = None,
    data: Data = None,
) -> None:
    """Print a new token; it is told only here."""
    from service.store import people

    with _session(begin(data=data)) as session:
        _, secret = people.make_token(
            session, name, role, actor=ACTOR, life=None if days is None else timedelta(days=days)
        )
    out(secret)


@tokens_app.command("list")
def list_tokens(data: Data = None) -> None:
    """Print every token, without its secret."""
    from service.store import people

    table = Table("number", "name", "role", "made by", "made", "holds until")
    with _session(begin(data=data)) as session:
        for token in people.tokens(session):
            row = asdict(token)
            until = "revoked" if row["revoked_at"] else f"{row['expires_at'] or '-'}"
            table.add_row(
                str(token.id),
                escape(token.name),
                token.role.value,
                escape(token.created_by),
                f"{token.created_at:%Y-%m-%d}",
                until,
            )
    Console().print(table)


@tokens_app.command("revoke")
def revoke_token(number: int, data: Data = None) -> None:
    """End a token at once."""
    from service.store import people

    with _session(begin(data=data)) as session:
        is_revoked = people.revoke_token(session, number, actor=ACTOR)
    out("revoked" if is_revoked else "no token with this number holds")


@contextmanager
def _session(settings: Settings) -> Iterator[Session]:
    from service import wiring

    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        yield session

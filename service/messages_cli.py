"""``vigil messages``: what other systems are told, what was given up, and sending it again."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from service.orders_cli import ACTOR
from service.study import MessageStatus
from service.terminal import EXIT_FAILED, AsJson, Data, Reason, begin, out, out_json, say

messages_app = typer.Typer(help="Messages to other systems: HL7, FHIR, webhooks.", no_args_is_help=True)

PeersFile = Annotated[Path | None, typer.Option("--peers", help="YAML file of DICOM peers.")]
Channel = Annotated[str | None, typer.Option(help="Only those of one channel.")]


@messages_app.command("list")
def list_messages(
    data: Data = None,
    channel: Channel = None,
    status: Annotated[MessageStatus | None, typer.Option(help="Only those that stand so.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 200,
    as_json: AsJson = False,
) -> None:
    """Print messages, newest first."""
    from service import wiring
    from service.store import outbox

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        found = outbox.listed(session, status=status, channel=channel, limit=limit)
    if as_json:
        out_json({"messages": [asdict(message) for message in found]})
        return
    names = (Column(name, overflow="fold") for name in ("message", "channel", "told", "study"))  # whole
    table = Table(*names, "status", "attempts", "answer", "why")
    for message in found:
        table.add_row(
            message.message_id,
            message.channel,
            message.event,
            message.lane,
            message.status,
            str(message.attempts),
            escape(message.answer),
            escape(message.error),
        )
    Console().print(table)


@messages_app.command("replay")
def replay_messages(
    message: Annotated[str | None, typer.Argument(help="Id of one message, sent or given up.")] = None,
    channel: Channel = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send a message again, or with no id all that were given up."""
    from service import orders, wiring

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        count = orders.replay_messages(session, actor=ACTOR, message=message, channel=channel)
    _print({"messages": count}, f"queued again: {count} messages", as_json=as_json)
    _require_one(message, count)


@messages_app.command("waive")
def waive_messages(
    reason: Reason,
    message: Annotated[str | None, typer.Argument(help="Id of one message that was given up.")] = None,
    channel: Channel = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take note that what was given up need not be told: one message, or all of a channel."""
    from service import orders, wiring

    if (message is None) == (channel is None):
        raise typer.BadParameter("Name one message, or a channel with --channel.")
    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        count = orders.waive_messages(session, actor=ACTOR, reason=reason, message=message, channel=channel)
    _print({"messages": count}, f"waived: {count} messages", as_json=as_json)
    _require_one(message, count)


@messages_app.command("park")
def park_channel(name: str, data: Data = None, peers: PeersFile = None, as_json: AsJson = False) -> None:
    """Let everything for a channel wait, without attempts."""
    from service import orders, reception, wiring

    settings = begin(data=data, peers=peers)
    reception.open_peers(settings).channel(name)
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        ordered = orders.park_destination(session, name, actor=ACTOR)
    _print(asdict(ordered), "parked" if ordered.changed else "nothing to change", as_json=as_json)


@messages_app.command("unpark")
def unpark_channel(name: str, data: Data = None, as_json: AsJson = False) -> None:
    """Let everything for a parked channel go on."""
    from service import orders, wiring

    with closing(wiring.open_store(begin(data=data))) as store, store.transaction() as session:
        ordered = orders.unpark_destination(session, name, actor=ACTOR)
    words = f"goes on: {ordered.deliveries} messages" if ordered.changed else "nothing to change"
    _print(asdict(ordered), words, as_json=as_json)


def _require_one(message: str | None, count: int) -> None:
    if message is not None and not count:
        say("vigil: No message with this id stands so. `vigil messages list` names them.")
        raise typer.Exit(EXIT_FAILED)


def _print(document: dict[str, int | bool], words: str, *, as_json: bool) -> None:
    if as_json:
        out_json(document)
    else:
        out(words)

"""``/dicom-web/subscribers/{aet}``: event reports of work items over WebSocket (PS3.18 11.12, 11.13).

Asynchronous because a channel stays open for days and mostly says nothing: no thread waits for each.
The database is asked in threads, a few times a minute for all that is needed.
"""

import asyncio
import contextlib
import json
from typing import cast

from fastapi import APIRouter, Request, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.access import Caller, Permission
from service.api.callers import caller_of
from service.api.dependencies import Parts
from service.api.dicomweb_parts import PREFIX, Aet
from service.api.workitem_documents import event_of
from service.store import audit, subscriptions, work
from service.store.subscriptions import Event

LOOK_EVERY_S = 1.0
FOLLOW_EVERY = 5  # looks: between two of them nobody makes work items, or asks again who listens
MOST_CHANNELS = 100  # of this process: each asks the database once a look
REFUSED, FULL = 1008, 1013  # close codes (RFC 6455 7.4.1 and its registry): policy, try again later

router = APIRouter(prefix=PREFIX, tags=["workitems"])
_open: set[WebSocket] = set()  # touched by the event loop alone


@router.websocket("/subscribers/{aet}")
async def open_channel(socket: WebSocket, aet: Aet) -> None:
    """Tell an AE title what it subscribed to, from now on, as DICOM JSON."""
    parts: Parts = socket.app.state.parts
    caller = await run_in_threadpool(_listener, socket, parts)
    if caller is None:
        await socket.close(REFUSED)
        return
    if len(_open) >= MOST_CHANNELS:
        await socket.close(FULL)
        return
    _open.add(socket)
    try:
        after = await run_in_threadpool(_opened, parts, caller.name)
        await socket.accept()
        await _tell(socket, parts, aet, after)
    except (WebSocketDisconnect, RuntimeError):  # closed while something was being said
        pass
    finally:
        _open.discard(socket)


async def _tell(socket: WebSocket, parts: Parts, aet: str, after: int) -> None:
    listening = asyncio.create_task(_until_closed(socket))
    looks = 0
    try:
        while not listening.done():
            follows = looks % FOLLOW_EVERY == 0
            with contextlib.suppress(OperationalError, InterfaceError, PoolTimeoutError):  # away: later
                if follows and await run_in_threadpool(_listener, socket, parts) is None:
                    await socket.close(REFUSED)  # signed out, ended or revoked since
                    return
                for event in await run_in_threadpool(_look, parts, aet, after, follows=follows):
                    await socket.send_text(json.dumps(event_of(event, disclaimer=parts.disclaimer)))
                    after = event.id
            looks += 1
            await asyncio.wait([listening], timeout=LOOK_EVERY_S)
    finally:
        listening.cancel()


def _listener(socket: WebSocket, parts: Parts) -> Caller | None:
    """Who listens, where they may."""
    # Starlette's socket is what a request is without its body: who asks stands in the headers.
    caller = caller_of(cast("Request", socket), parts)
    return caller if caller is not None and caller.may(Permission.IMAGES) else None


async def _until_closed(socket: WebSocket) -> None:
    """Read what a subscriber says, which means nothing, until it goes."""
    with contextlib.suppress(RuntimeError):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass


def _opened(parts: Parts, actor: str) -> int:
    with parts.store.transaction() as session:
        audit.append(session, "workitem.channel_opened", actor=actor)
        return subscriptions.newest(session)


def _look(parts: Parts, aet: str, after: int, *, follows: bool) -> tuple[Event, ...]:
    with parts.store.transaction() as session:
        if follows:
            work.follow(session)
        return subscriptions.events(session, aet, after=after)

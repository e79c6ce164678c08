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

from service.access import Permission
from service.api.callers import caller_of
from service.api.dependencies import Parts
from service.api.dicomweb_parts import PREFIX
from service.api.workitem_documents import event_of
from service.store import audit, subscriptions, work
from service.store.subscriptions import Event

LOOK_EVERY_S = 1.0
FOLLOW_EVERY = 5  # looks: between two of them nobody makes work items of new studies
REFUSED = 1008  # close code: policy

router = APIRouter(prefix=PREFIX, tags=["workitems"])


@router.websocket("/subscribers/{aet}")
async def open_channel(socket: WebSocket, aet: str) -> None:
    """Tell an AE title what it subscribed to, from now on, as DICOM JSON."""
    parts: Parts = socket.app.state.parts
    # Starlette's socket is what a request is without its body: who asks stands in the headers.
    caller = await run_in_threadpool(caller_of, cast("Request", socket), parts)
    if caller is None or not caller.may(Permission.IMAGES):
        await socket.close(REFUSED)
        return
    after = await run_in_threadpool(_opened, parts, caller.name)
    await socket.accept()
    listening = asyncio.create_task(_until_closed(socket))
    looks = 0
    try:
        while not listening.done():
            with contextlib.suppress(OperationalError, InterfaceError):  # the database is away: later
                found = await run_in_threadpool(_look, parts, aet, after, follows=looks % FOLLOW_EVERY == 0)
                for event in found:
                    await socket.send_text(json.dumps(event_of(event, disclaimer=parts.disclaimer)))
                    after = event.id
            looks += 1
            await asyncio.wait([listening], timeout=LOOK_EVERY_S)
    except (WebSocketDisconnect, RuntimeError):  # closed while something was being said
        pass
    finally:
        listening.cancel()


async def _until_closed(socket: WebSocket) -> None:
    """Read what a subscriber says, which means nothing, until it goes."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_text()


def _opened(parts: Parts, actor: str) -> int:
    with parts.store.transaction() as session:
        audit.append(session, "workitem.channel_opened", actor=actor)
        return subscriptions.newest(session)


def _look(parts: Parts, aet: str, after: int, *, follows: bool) -> tuple[Event, ...]:
    with parts.store.transaction() as session:
        if follows:
            work.follow(session)
        return subscriptions.events(session, aet, after=after)

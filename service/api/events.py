"""``GET /api/v1/events``: change notices as server-sent events (WHATWG HTML, 9.2).

Asynchronous where the other routes are plain functions: a stream is open for minutes, and a thread of the
pool for each would leave none to answer with.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from service.access import Permission
from service.api.callers import caller_of, require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.hub import Hub, Watcher
from service.engine import DATABASE_AWAY
from service.store import Store, changes
from service.store.changes import Change

HEARTBEAT_S = 15.0  # shorter than the idle time of usual proxies, and than the patience of our page
STALE_S = 10.0  # since the last look at the database; some looks of the hub's
SEND_S = 20.0  # whoever takes nothing for so long is let go
ASK_EVERY_S = 15.0  # whether who watches still may: signed out, ended or revoked, it is told no more
LONGEST_S = 900.0  # then the browser connects anew
RETRY_MS = 3000
MOST_MISSED = 1000  # notices; whoever missed more reads the list again
MEDIA_TYPE = "text/event-stream"

router = APIRouter(
    prefix="/api/v1",
    tags=["worklist"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)
Number = Annotated[int | None, Query(ge=0, lt=2**63)]


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {}}, "description": "Change notices, as they come."}},
)
async def read_events(
    request: Request,
    parts: PartsOf,
    since: Number = None,
    wait: Annotated[bool, Query(description="false: what there is, and no more.")] = True,
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**63)] = None,
) -> Response:
    """Which studies of the list changed: `event: study` with its key, or `event: reload` after a gap.

    Where nothing changes, `event: here` says so every 15 s, or `event: stale` that the database was not read
    for `for_s` seconds. Whoever hears nothing for longer has lost the connection.
    `Last-Event-ID`, or the worklist's `event` as `since`, names the last notice that was seen.
    """
    after = since if last_event_id is None else last_event_id
    if not wait:
        missed = await run_in_threadpool(_missed, parts.store, after)
        return Response(b"".join(missed), media_type=MEDIA_TYPE)
    hub: Hub = request.app.state.hub
    watcher = Watcher()
    await run_in_threadpool(hub.join, watcher)

    def may_watch() -> bool:
        try:
            caller = caller_of(request, parts)
        except DATABASE_AWAY:  # then there is nothing to tell either
            return True
        return caller is not None and caller.may(Permission.VIEW)

    return Stream(hub, watcher, parts.store, after, may_watch=may_watch)


class Stream(Response):
    """A stream to one watcher, until it leaves, may not watch any more, is too slow, or has lasted long."""

    media_type = MEDIA_TYPE

    def __init__(
        self, hub: Hub, watcher: Watcher, store: Store, after: int | None, *, may_watch: Callable[[], bool]
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})  # nginx would keep events back
        del self.headers["content-length"]
        self._hub, self._watcher, self._store, self._after = hub, watcher, store, after
        self._may_watch = may_watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer."""
        told = asyncio.create_task(self._tell(send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({told, gone}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                await told
        finally:
            self._hub.leave(self._watcher)
            told.cancel()
            gone.cancel()

    async def _tell(self, send: Send) -> None:
        """Send what was missed, then what comes."""
        start = {"type": "http.response.start", "status": HTTPStatus.OK.value, "headers": self.raw_headers}
        loop = asyncio.get_running_loop()
        ends_at, asks_at = loop.time() + LONGEST_S, loop.time() + ASK_EVERY_S
        with suppress(TimeoutError):  # left unfinished: the server closes the connection
            # An open stream is called live: not before the database was read.
            missed = await run_in_threadpool(_missed, self._store, self._after)
            await send(start)
            await _send(send, f"retry: {RETRY_MS}\n\n".encode())
            await _send(send, b"".join(missed))
            while not self._watcher.is_dropped and loop.time() < ends_at:
                event = await self._next()
                if loop.time() >= asks_at:
                    if not await run_in_threadpool(self._may_watch):
                        break
                    asks_at = loop.time() + ASK_EVERY_S
                await _send(send, event)
            await _send(send, b"", is_last=True)

    async def _next(self) -> bytes:
        """Return the next event, or a sign of life: one that a page can hear, so no comment."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                change = await self._watcher.queue.get()
        except TimeoutError:
            unread_s = self._hub.unread_s
            if unread_s > STALE_S:
                return f'event: stale\ndata: {{"for_s": {unread_s:.0f}}}\n\n'.encode()
            return b"event: here\ndata: {}\n\n"
        return _reload(None) if change is None else _event(change)


def _missed(store: Store, after: int | None) -> list[bytes]:
    """Notices after a number, or one to read the list again: some are gone, or there are too many."""
    with store.transaction() as session:
        newest = changes.settle(session)
    if after is None:
        return []
    with store.transaction() as session:
        found = changes.since(session, after, limit=MOST_MISSED + 1)
    if found is None or len(found) > MOST_MISSED:
        return [_reload(newest)]
    return [_event(change) for change in found]


def _event(change: Change) -> bytes:
    data = json.dumps({"key": change.key, "change": change.change}, separators=(",", ":"))
    return f"id: {change.number}\nevent: study\ndata: {data}\n\n".encode()


def _reload(newest: int | None) -> bytes:
    number = "" if newest is None else f"id: {newest}\n"
    return f"{number}event: reload\ndata: {{}}\n\n".encode()


async def _send(send: Send, body: bytes, *, is_last: bool = False) -> None:
    """Send a piece; TimeoutError where nobody takes it."""
    async with asyncio.timeout(SEND_S):
        await send({"type": "http.response.body", "body": body, "more_body": not is_last})


async def _until_gone(receive: Receive) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()

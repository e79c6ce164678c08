"""Tells the database now and then that the API answers, for those who look from elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from service.store import Store, census

ALIVE_S = 10.0  # between words

log = structlog.get_logger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Tell it while the application serves, by the loop and threads that answer: who hangs is silent."""
    store = app.state.parts.store
    await _tell(store)  # before the first request: who finds the page finds it alive
    telling = asyncio.create_task(_go_on_telling(store))
    try:
        yield
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling


async def _go_on_telling(store: Store) -> None:
    while True:
        await asyncio.sleep(ALIVE_S)
        await _tell(store)


async def _tell(store: Store) -> None:
    try:
        await run_in_threadpool(_beat, store)
    except SQLAlchemyError as error:  # away, or not upgraded yet
        log.warning("the API waits for the database", error=type(error).__name__)


def _beat(store: Store) -> None:
    with store.transaction() as session:
        census.beat(session, census.API)

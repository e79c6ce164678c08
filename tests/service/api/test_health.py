import math
import time
from collections.abc import Callable

import anyio
import anyio.to_thread
import httpx
import pytest
from sqlalchemy import text

from service import __version__
from service.api import alive
from service.doctor.work import LOOPS_S
from service.store import Store, census
from tests.web_client import TestClient


def test_a_process_without_a_database_is_alive_but_not_ready(stranded: TestClient) -> None:
    assert stranded.get("/healthz").json() == {"status": "alive", "version": __version__}
    answer = stranded.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:vigil:problem:database-unavailable"


@pytest.mark.postgres
def test_a_process_with_its_schema_is_ready_and_counts_the_workers(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        session.execute(
            text(
                "INSERT INTO procrastinate_workers (last_heartbeat)"
                " VALUES (now()), (now() - interval '1 hour')"
            )
        )
    assert client.get("/readyz").json() == {"status": "ready", "version": __version__, "workers": 1}


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_what_the_monitor_asks_is_answered_to_nobody_behind_a_proxy(
    stranded: TestClient, path: str, header: str
) -> None:
    """It asks for no name: a proxy that forwards every path must not show it to the world."""
    answer = stranded.get(path, headers={header: "203.0.113.7"})

    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:vigil:problem:behind-a-proxy"
    assert stranded.get("/healthz", headers={header: "203.0.113.7"}).status_code == 200
    assert stranded.get(path).status_code != 404


@pytest.mark.postgres
def test_another_schema_is_not_ready_and_says_what_to_run(client: TestClient, store: Store) -> None:
    with store.engine.begin() as connection:
        (current,) = connection.execute(text("SELECT version_num FROM public.alembic_version")).one()
        connection.execute(text("UPDATE public.alembic_version SET version_num = '0002'"))
    try:
        answer = client.get("/readyz")
    finally:
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE public.alembic_version SET version_num = :v"), {"v": current})
    assert answer.status_code == 503
    assert "vigil db upgrade" in answer.json()["remedy"]


@pytest.mark.postgres
def test_it_tells_the_database_that_it_lives_again_and_again(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator's look from another machine asks no port of it."""
    monkeypatch.setattr(alive, "ALIVE_S", 0.05)
    with client:
        assert told_s(store) < LOOPS_S
        with store.transaction() as session:
            session.execute(text("UPDATE vigil.heartbeat SET at = now() - interval '1 hour'"))
        assert eventually(lambda: told_s(store) < LOOPS_S)


def test_it_serves_and_ends_while_it_has_nobody_to_tell(stranded: TestClient) -> None:
    with stranded:
        assert stranded.get("/healthz").status_code == 200


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def told_s(store: Store) -> float:
    with store.transaction() as session:
        return census.beats(session).get(census.API, math.inf)


def test_a_process_whose_every_thread_waits_for_the_database_says_that_it_lives(stranded: TestClient) -> None:
    """Else the supervisor would restart it again and again for a database that hangs."""

    async def ask() -> httpx.Response:
        threads = anyio.to_thread.current_default_thread_limiter()
        threads.total_tokens = 1
        threads.acquire_on_behalf_of_nowait("who waits for the database")
        transport = httpx.ASGITransport(app=stranded.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            with anyio.fail_after(30):
                return await client.get("/healthz")

    assert anyio.run(ask).status_code == 200

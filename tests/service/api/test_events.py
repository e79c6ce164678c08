"""Change notices over a real server: a test client would wait for the end of a stream."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.types import Message

from service.access import Role
from service.api import create_app, events, hub
from service.settings import Settings
from service.store import Store, changes, people, studies
from service.study import Priority, State
from tests.seeds import MODEL, Seed, plant
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

URL = "/api/v1/events"
TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def _looks_end_with_their_watchers(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing looks at the database once nobody watches."""
    monkeypatch.setattr(hub, "POLL_S", 0.3)
    yield
    assert store
    for thread in threading.enumerate():
        if thread.name == hub.THREAD:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


@dataclass(frozen=True)
class Event:
    number: int | None
    kind: str
    key: str | None
    change: str | None


HERE = Event(None, "here", None, None)
STALE = Event(None, "stale", None, None)


def read(lines: Iterator[str]) -> Iterator[Event]:
    """Events of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            data = json.loads(fields["data"])
            number = int(fields["id"]) if "id" in fields else None
            yield Event(number, fields["event"], data.get("key"), data.get("change"))
            fields = {}


@contextmanager
def serving(store: Store, settings: Settings) -> Iterator[str]:
    """Address of a running server."""
    app = create_app(store=store, settings=settings, model=MODEL)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def served(store: Store, settings: Settings) -> Iterator[str]:
    with serving(store, settings) as address:
        yield address


@contextmanager
def watching(address: str, **headers: str) -> Iterator[Iterator[Event]]:
    with httpx.stream("GET", f"{address}{URL}", headers=headers, timeout=TIMEOUT_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        yield read(lines)


def plant_one(store: Store, name: str) -> str:
    with store.transaction() as session:
        plant(session, Seed(name=name))
    return Seed(name=name).key


def until(found: Iterator[Event], key: str, change: str) -> list[Event]:
    told = []
    for event in found:
        told.append(event)
        if (event.key, event.change) == (key, change):
            break
    return told


def test_a_change_is_told_and_what_was_missed_is_told_after(
    served: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "POLL_S", 5.0)
    with watching(served) as found:
        key = plant_one(store, "a")
        first = until(found, key, "scored")
    with store.transaction() as session:
        studies.raise_priority(session, key, Priority.STAT)
    with watching(served, **{"Last-Event-ID": str(first[-1].number)}) as found:
        missed = until(found, key, "priority")
        with store.transaction() as session:
            changes.note(session, key, "feedback")
        assert until(found, key, "feedback")
    numbers = [event.number for event in (*first, *missed)]
    assert numbers == sorted(numbers)
    assert all(event.kind == "study" for event in missed)


def test_without_notify_the_clock_finds_what_changed(
    served: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANNEL", "nobody_calls_here")
    with watching(served) as found:
        key = plant_one(store, "a")
        assert until(found, key, "scored")


def test_a_quiet_list_gives_signs_of_life_and_a_long_stream_ends(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(events, "LONGEST_S", 3.0)
    with watching(served) as found:
        told = list(found)
    assert told
    assert set(told) == {HERE}


def test_a_quiet_stream_says_when_the_database_was_not_read(
    served: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    with watching(served) as found:
        assert next(found) == HERE
        monkeypatch.setattr(events, "STALE_S", 0.6)
        with monkeypatch.context() as away:
            away.setattr(changes, "settle", refused)
            assert next(event for event in found if event != HERE) == STALE
        monkeypatch.setattr(hub, "POLL_S", 0.1)
        assert next(event for event in found if event != STALE) == HERE
        key = plant_one(store, "a")
        assert until(found, key, "scored")


def test_a_stream_whose_first_look_at_the_database_fails_does_not_open(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page calls one that is open live."""

    def away(*_: object) -> list[bytes]:
        raise OperationalError("SELECT", {}, OSError("no answer"))

    monkeypatch.setattr(events, "_missed", away)
    assert httpx.get(f"{served}{URL}", timeout=TIMEOUT_S).status_code == 503


def refused(_: object) -> int:
    """What a database that does not answer does to whoever looks."""
    raise OperationalError("SELECT", {}, OSError("no answer"))


def test_a_stream_ends_for_whom_may_watch_no_more(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    with store.transaction() as session:
        token, secret = people.make_token(session, "watcher", Role.VIEWER, actor="test")
    with (
        serving(store, settings.model_copy(update={"access": "sign-in"})) as address,
        watching(address, Authorization=f"Bearer {secret}") as found,
    ):
        assert next(found) == HERE
        with store.transaction() as session:
            people.revoke_token(session, token.id, actor="test")
        plant_one(store, "a")
        assert len(list(found)) < 300  # its end, long before its time


def test_too_many_watchers_are_asked_to_come_again(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_WATCHERS", 1)
    with watching(served):
        refused = httpx.get(f"{served}{URL}", timeout=TIMEOUT_S)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.json()["type"] == "urn:vigil:problem:too-many-watchers"


def test_a_watcher_that_falls_behind_is_let_go_and_can_ask_for_what_it_missed(
    served: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE", 3)
    with watching(served) as slow:
        with store.transaction() as session:
            for number in range(50):
                changes.note(session, f"study{number}", "changed")
        told = list(slow)  # its end
    assert len(told) < 50
    again = httpx.get(f"{served}{URL}?wait=false&since=0", timeout=TIMEOUT_S)
    assert again.text.count("event: study") == 50


def test_a_watcher_that_takes_nothing_is_let_go_without_holding_up_anybody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEND_S", 0.2)
    told = hub.Hub(store)

    async def never(*_: object) -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def taking_nothing(message: Message) -> None:
        if message["type"] == "http.response.body":
            await never()

    async def stream() -> None:
        watcher = hub.Watcher()
        told.join(watcher)
        answer = events.Stream(told, watcher, store, None, may_watch=lambda: True)
        await asyncio.wait_for(answer({}, never, taking_nothing), 60)

    asyncio.run(stream())
    assert not told._watchers


def missed(client: TestClient, since: int) -> list[Event]:
    answer = client.get(URL, params={"wait": "false", "since": since})
    assert answer.status_code == 200
    return list(read(iter(answer.text.splitlines())))


def test_a_gap_says_to_read_the_list_again(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = plant_one(store, "a")
    newest = client.get("/api/v1/worklist").json()["event"]
    assert {event.key for event in missed(client, 0)} == {key}
    assert missed(client, newest) == []
    reload = [Event(newest, "reload", None, None)]
    assert missed(client, newest + 1) == reload  # of a database that was put back
    monkeypatch.setattr(events, "MOST_MISSED", 1)
    assert missed(client, 0) == reload
    monkeypatch.setattr(events, "MOST_MISSED", 1000)
    monkeypatch.setattr(changes, "KEPT", 1)
    with store.transaction() as session:
        changes.settle(session)
    assert missed(client, 0) == reload


def test_a_number_is_given_only_once_all_smaller_ones_can_be_seen(store: Store) -> None:
    """The transaction that began first commits last: its notice must not be missed."""
    with store.transaction() as late:
        changes.note(late, "late", "changed")
        late.flush()
        with store.transaction() as early:
            changes.note(early, "early", "changed")
        with store.transaction() as session:
            first = changes.settle(session)
    with store.transaction() as session:
        changes.settle(session)
        found = changes.since(session, first, limit=10)
    assert [change.key for change in found or ()] == ["late"]


def test_notices_hold_keys_and_codes_alone(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", description="SECRET^NAME", state=State.FAILED))
    answer = client.get(URL, params={"wait": "false", "since": 0})
    assert "SECRET" not in answer.text
    with store.transaction() as session:
        columns = session.execute(text("SELECT * FROM vigil.change LIMIT 1")).keys()
    assert set(columns) == {"id", "number", "study_key", "change", "at"}

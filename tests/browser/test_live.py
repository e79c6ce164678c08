"""The list says "Live" only while it is, with the distribution's browser over a path that may swallow all."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import permutations
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError

from service.api import create_app, events, hub
from service.settings import Settings
from service.store import Store, changes
from service.store.tables import StudyRow
from tests.browser.conftest import Serve
from tests.seeds import MODEL, NEVER_OVERDUE_S, Seed, plant, plant_drift

pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.slow]

SEED = Seed(name="a", p_value=0.85)
WORKER = text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")


class Wire:
    """A network path to a server; while it is broken nothing passes, and no connection ends."""

    def __init__(self, port: int) -> None:
        self.is_broken = threading.Event()
        self._server = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets = [self._door]
        self._start(self._accept)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._door.getsockname()[1]}"

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(60)

    def _start(self, target: Callable[..., None], *sockets: socket.socket) -> None:
        thread = threading.Thread(target=target, args=sockets)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ends = self._door.accept()[0], socket.create_connection(("127.0.0.1", self._server))
                self._sockets += ends
                for source, sink in permutations(ends):
                    self._start(self._carry, source, sink)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.is_broken.is_set():
                    sink.sendall(data)
            if not self.is_broken.is_set():
                sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def path(store: Store, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Path to the served list of one study; the server says more often that it is there."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(hub, "POLL_S", 0.2)
    with store.transaction() as session:
        plant(session, SEED)
        session.execute(WORKER)
    settings = Settings(data=tmp_path, access="open", longest_unread_s=NEVER_OVERDUE_S)
    with serve(create_app(store=store, settings=settings, model=MODEL)) as address:
        found = Wire(int(urlsplit(address).port or 0))
        yield found
        found.close()


@contextmanager
def shown(chromium: Browser, path: Wire, address: str = "/") -> Iterator[Page]:
    """Page of the list, or another one."""
    context = chromium.new_context(base_url=path.address)
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()


def hurry(page: Page, name: str, seconds: float) -> None:
    """Shorten one of the times of the page."""
    expect(page.locator("#connection.live")).to_be_visible()
    page.evaluate("([name, s]) => { document.querySelector('#events').dataset[name] = s; }", [name, seconds])


def test_a_path_that_swallows_everything_is_told_and_the_list_comes_back(
    chromium: Browser, path: Wire
) -> None:
    with shown(chromium, path) as page:
        hurry(page, "silentS", 2)
        path.is_broken.set()
        expect(page.locator("#connection.lost")).to_have_text("Connection lost, trying again")
        path.is_broken.clear()
        expect(page.locator("#connection.live")).to_have_text("Live")


def test_a_database_that_does_not_answer_is_told_in_words(
    chromium: Browser, path: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> int:
        raise OperationalError("SELECT", {}, OSError("no answer"))

    monkeypatch.setattr(events, "STALE_S", 1.0)
    with shown(chromium, path) as page:
        expect(page.locator("#connection.live")).to_be_visible()
        with monkeypatch.context() as away:
            away.setattr(changes, "settle", refused)
            said = page.locator("#connection.lost .say")
            expect(said).to_contain_text("the list may be old, since ")
        expect(page.locator("#connection.live")).to_have_text("Live")


def test_a_quiet_list_is_read_again_all_the_same(chromium: Browser, path: Wire, store: Store) -> None:
    with shown(chromium, path) as page:
        with store.transaction() as session:
            session.execute(text("DELETE FROM procrastinate_workers"))  # nobody tells of it
        hurry(page, "rereadS", 1)
        expect(page.locator("#list .warning")).to_contain_text("No worker answers")
        page.locator(f"#study-{SEED.key}").focus()
        with store.transaction() as session:
            session.execute(WORKER)
        expect(page.locator("#pulse")).to_contain_text("Workers 1", use_inner_text=True)
        expect(page.locator(f"#study-{SEED.key}")).to_be_focused()


def test_a_score_that_was_replaced_is_not_marked_and_the_row_tells_what_counts_now(
    chromium: Browser, path: Wire, store: Store
) -> None:
    with shown(chromium, path, "/?live=off") as page:
        with store.transaction() as session:
            plant_drift(session, SEED)
        page.get_by_role("button", name="Mark seen").click()
        expect(page.locator("#news")).to_contain_text("scored again meanwhile")
        row = page.locator(f"#row-{SEED.key}[data-state=not_assessable]")
        expect(row).to_contain_text("Not seen")


def test_a_row_that_somebody_reads_stays_and_loses_a_number_that_does_not_hold_any_more(
    chromium: Browser, path: Wire, store: Store
) -> None:
    with shown(chromium, path) as page:
        expect(page.locator("#connection.live")).to_be_visible()
        page.locator(f"#study-{SEED.key}").focus()
        row = page.locator(f".band.ranked #row-{SEED.key}")
        expect(row.locator(".percentile .value")).to_be_visible()
        with store.transaction() as session:
            session.execute(update(StudyRow).values(is_pending=True))
        expect(row).to_contain_text("this score does not include them")
        expect(row.locator(".percentile .value")).to_be_visible()
        with store.transaction() as session:
            plant_drift(session, SEED)
        expect(row.locator(".badge.not_assessable")).to_be_visible()
        for number in (".percentile .value", ".percentile .scale", ".rank"):
            expect(row.locator(number)).to_be_hidden()
        expect(page.locator(f"#study-{SEED.key}")).to_be_focused()


def test_on_a_long_page_the_row_that_changed_last_is_told_after_many_others(
    chromium: Browser, path: Wire, store: Store
) -> None:
    many = [Seed(name=f"many {n}", p_value=0.5) for n in range(60)]
    with store.transaction() as session:
        plant(session, *many)
    with shown(chromium, path) as page:
        expect(page.locator("#connection.live")).to_be_visible()
        page.locator(f"#study-{many[0].key}").focus()
        others = [seed.key for seed in many[:55]]
        with store.transaction() as session:
            session.execute(update(StudyRow).where(StudyRow.key.in_(others)).values(description="changed"))
        expect(page.locator("#news")).to_contain_text("55 changed studies")
        with store.transaction() as session:
            plant_drift(session, many[59])
        row = page.locator(f"#row-{many[59].key}")
        expect(row.locator(".badge.not_assessable")).to_be_visible()
        expect(row.locator(".percentile .value")).to_be_hidden()


def test_a_long_page_that_is_read_is_asked_for_in_parts(chromium: Browser, path: Wire, store: Store) -> None:
    with store.transaction() as session:
        plant(session, *(Seed(name=f"many {n}", p_value=0.5) for n in range(60)))
    with shown(chromium, path) as page:
        expect(page.locator("#connection.live")).to_be_visible()
        page.locator(f"#study-{SEED.key}").focus()
        last = page.locator("#list tr[data-key]").last.get_attribute("data-key")
        page.route("**/rows?*", lambda route: route.fulfill(body=""))
        page.route(f"{path.address}/", lambda route: route.fulfill(body='<dl id="pulse"></dl>'))
        with page.expect_request(lambda request: f"key={last}" in request.url):
            hurry(page, "rereadS", 1)


def test_a_study_page_says_that_something_else_counts_or_that_nobody_answers(
    chromium: Browser, path: Wire, store: Store
) -> None:
    again = "document.dispatchEvent(new Event('visibilitychange'))"
    with shown(chromium, path, f"/studies/{SEED.key}") as page:
        changed = page.locator("#changed")
        expect(page.locator("#given")).to_have_text("No feedback from you yet.")
        expect(changed).to_be_hidden()
        page.route("**/api/v1/studies/*", lambda route: route.abort())
        page.evaluate(again)
        expect(changed).to_contain_text("this may be old")
        page.unroute_all()
        page.evaluate(again)
        expect(changed).to_be_hidden()
        for values, said in (
            ({"flag": "patient_conflict"}, "contradict each other"),
            ({"is_pending": True}, "this score does not include them"),
        ):
            with store.transaction() as session:
                session.execute(update(StudyRow).values(**values))
            page.evaluate(again)
            expect(changed).to_contain_text(said)
        with store.transaction() as session:
            plant_drift(session, SEED)
        page.evaluate(again)
        expect(changed).to_contain_text("What counts of this study has changed.")
        changed.get_by_role("link").click()
        expect(page.locator(".verdict.ranked")).to_have_count(0)


def test_a_change_that_nobody_answered_is_not_called_undone(chromium: Browser, path: Wire) -> None:
    for address, key, place in (("/?live=off", "s", "#news"), (f"/studies/{SEED.key}", "2", "#answer")):
        with shown(chromium, path, address) as page:
            page.wait_for_load_state("networkidle")
            if place == "#news":
                page.locator(f"#study-{SEED.key}").focus()
            page.context.set_offline(offline=True)
            page.keyboard.press(key)
            expect(page.locator(place)).to_contain_text("It may have been done all the same")


def test_a_study_that_was_scored_again_is_not_judged_and_its_page_tells_what_counts_now(
    chromium: Browser, path: Wire, store: Store
) -> None:
    with shown(chromium, path, f"/studies/{SEED.key}") as page:
        expect(page.locator(".verdict.ranked")).to_be_visible()
        with store.transaction() as session:
            plant_drift(session, SEED)
        page.keyboard.press("2")
        expect(page.locator("#answer")).to_contain_text("scored again meanwhile: nothing was stored")
        expect(page.locator(".verdict.ranked")).to_have_count(0)

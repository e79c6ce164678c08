"""The first administrator's way in, with the distribution's browser: link, password, people, audit trail."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from service.access import Role
from service.api import create_app
from service.settings import Settings
from service.store import Store, people
from tests.browser.conftest import Serve
from tests.seeds import MODEL, Seed, plant

pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.slow]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PASSWORD = "correct horse battery staple"  # noqa: S105 - of this test alone


@pytest.fixture(scope="module")
def address(database_url: str, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the application, where people sign in."""
    own = Store.open(database_url)
    with serve(
        create_app(store=own, settings=Settings(data=tmp_path_factory.mktemp("data")), model=MODEL)
    ) as served:
        yield served
    own.close()


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """Page of somebody who has not signed in; every word on the console fails the test."""
    context = chromium.new_context(base_url=address)
    said: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


def test_by_plain_http_in_the_house_one_comes_in_too(
    chromium: Browser, serve: Serve, store: Store, tmp_path: Path
) -> None:
    with store.transaction() as session:
        secret = people.invite(session, Role.READER, actor="test")
        people.accept(session, secret, name="ada", password=PASSWORD)
    settings = Settings(data=tmp_path, api_host="0.0.0.0")
    with serve(create_app(store=store, settings=settings, model=MODEL)) as address:
        context = chromium.new_context(base_url=address.replace("127.0.0.1", "vigil.lan"))
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Worklist")).to_be_visible()
        context.close()


def test_a_list_whose_session_has_ended_says_so_and_leads_to_the_form(
    chromium: Browser, address: str, store: Store
) -> None:
    with store.transaction() as session:
        seed = Seed(name="a")
        plant(session, seed)
        secret = people.invite(session, Role.READER, actor="test")
        people.accept(session, secret, name="ada", password=PASSWORD)
    context = chromium.new_context(base_url=address)
    page = context.new_page()
    page.goto("/sign-in")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("#connection.live")).to_be_visible()
    context.clear_cookies()
    page.locator(f"#study-{seed.key}").focus()
    page.keyboard.press("s")
    expect(page.locator("#news")).to_contain_text("Your session has ended, nothing was changed.")
    expect(page.locator(f"#row-{seed.key}")).to_contain_text("Not seen")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def breaks_no_rule(page: Page) -> None:
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options={"runOnly": RULES})
        assert found.violations_count == 0, found.generate_report()


def test_the_first_administrator_comes_in_by_the_link_and_finds_it_on_record(
    page: Page, store: Store
) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"))
        link = people.welcome_path(people.invite(session, Role.ADMIN, actor="first start"))
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    breaks_no_rule(page)

    page.goto(link)
    breaks_no_rule(page)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("tr[data-key]")).to_have_count(1)

    page.get_by_role("link", name="Administration").click()
    expect(page.get_by_role("cell", name="ada", exact=True)).to_be_visible()
    breaks_no_rule(page)
    page.get_by_role("link", name="Audit trail").click()
    expect(page.get_by_role("cell", name="Account made")).to_be_visible()
    breaks_no_rule(page)

    page.get_by_role("button", name="Sign out").click()
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

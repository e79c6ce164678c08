"""What a person does on the page of one study, with the distribution's browser and WebGL in software."""

import io
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import select

from service.access import Identity
from service.api import create_app
from service.settings import Settings
from service.store import Store, feedback, identities
from service.store.tables import AuditRow, FeedbackRow, StudyRow
from service.study import State, Verdict
from tests.browser.conftest import Serve
from tests.conftest import empty
from tests.seeds import MODEL, Seed, plant
from tests.viewed import HEAD, score

pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.slow]

WIDTH, HEIGHT = 1280, 900
PATIENCE_MS = 60_000  # the software renderer takes its time
MARKUP = "<img src onerror><i>slanted</i>"
NAME = f"Musterfrau{MARKUP}^Zenobia"
SECRETS = ("Musterfrau", "Zenobia", "PID-775533")
NO_WEBGL = """
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind.startsWith("webgl") ? null : original.call(this, kind, ...rest);
};
"""
DECLINED = Seed(
    name="declined", state=State.NOT_ASSESSABLE, reason="localiser", detail="all 3 images say LOCALIZER"
)
BROKEN = Seed(name="broken", state=State.FAILED)
WAITING = Seed(name="waiting", state=State.QUEUED)


@pytest.fixture(scope="module")
def rows(database_url: str) -> Iterator[Store]:
    """Store on empty tables, for all tests of this file."""
    store = Store.open(database_url)
    empty(store)
    yield store
    store.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data=tmp_path_factory.mktemp("data"), access="open")


@pytest.fixture(scope="module")
def viewed(rows: Store, settings: Settings) -> str:
    """Key of a study that a worker scored, whose texts are full of markup."""
    key = score(rows, settings, SeriesDescription=f"T1 {MARKUP}", StudyDescription=f"Head {MARKUP}")
    with rows.transaction() as session:
        plant(session, DECLINED, BROKEN, WAITING)
        named = Identity(name=NAME, patient_id="PID-775533", age_years=54.0, sex="F")
        identities.note(session, key, named)
    return key


@pytest.fixture(scope="module")
def address(rows: Store, settings: Settings, serve: Serve) -> Iterator[str]:
    with serve(create_app(store=rows, settings=settings, model=MODEL)) as served:
        yield served


@pytest.fixture
def context(chromium: Browser, address: str, viewed: str) -> Iterator[BrowserContext]:  # noqa: ARG001 - rows
    """Context whose pages may say nothing on the console and ask nobody else for anything."""
    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, base_url=address)
    said: list[str] = []
    asked: set[str] = set()
    context.on("console", lambda message: said.append(message.text))
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("request", lambda request: asked.add(urlparse(request.url).netloc))
    yield context
    context.close()
    assert said == []
    assert asked <= {urlparse(address).netloc, ""}  # "" is data: and blob:


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Page in a browser without WebGL, which is quick."""
    context.add_init_script(NO_WEBGL)
    return context.new_page()


@pytest.fixture
def live(context: BrowserContext, viewed: str) -> Page:
    """Page of the scored study, its volume on the screen."""
    page = context.new_page()
    page.goto(f"/studies/{viewed}")
    page.wait_for_selector("#study.live", timeout=PATIENCE_MS)
    page.wait_for_timeout(200)  # one more frame of the canvas
    return page


def pixels(page: Page) -> NDArray[np.int16]:
    """What a person sees of the canvas, red, green, blue."""
    picture = Image.open(io.BytesIO(page.locator("#planes").screenshot())).convert("RGB")
    return np.asarray(picture, dtype=np.int16)


def coloured(page: Page) -> int:
    """Pixels of the canvas that are neither grey nor of the yellow cross: more blue or green than red."""
    red, green, blue = np.moveaxis(pixels(page), -1, 0)
    return int((np.maximum(green, blue) - red > 30).sum())


def test_the_volume_is_on_the_screen_with_its_heatmap_and_keys_and_sliders_move_it(
    live: Page, shots: Path
) -> None:
    live.screenshot(path=shots / "study-dark.png", full_page=True)
    seen = pixels(live)
    grey = seen[(seen.max(axis=-1) - seen.min(axis=-1)) < 8].mean(axis=-1)
    assert len(np.unique(grey.round())) > 40  # an image, not a blank
    before = coloured(live)
    assert before > 500
    said, slices = live.locator("#slice-said"), HEAD.shape[0]
    expect(said).to_have_text(f"{HEAD.bright[0] + 1} of {slices}")
    expect(live.locator("#reading")).to_have_text(re.compile(r"map 0\.(9\d|8[5-9]) at the cross"))

    live.get_by_label("Threshold").fill("0.85")
    assert 0 < coloured(live) < before / 2
    live.keyboard.press("h")
    assert coloured(live) < 50
    live.keyboard.press("h")
    live.get_by_label("Opacity").fill("0")
    assert coloured(live) < 50

    place = live.locator("#here").get_attribute("x1")
    live.locator("#curve").click(position={"x": 2, "y": 10})
    expect(said).to_have_text(f"1 of {slices}")
    live.get_by_role("link", name=str(HEAD.bright[0] + 1), exact=True).first.click()
    expect(said).to_have_text(f"{HEAD.bright[0] + 1} of {slices}")
    live.keyboard.press("k")
    live.keyboard.press("k")
    expect(said).to_have_text(f"{HEAD.bright[0] + 3} of {slices}")
    assert live.locator("#here").get_attribute("x1") != place
    live.keyboard.press("v")
    expect(live.locator("#planes-shown")).to_have_value("0")
    assert "?" not in live.url  # nothing was loaded anew


def test_without_webgl_the_page_says_so_and_the_pictures_stay(page: Page, viewed: str, shots: Path) -> None:
    page.goto(f"/studies/{viewed}")
    expect(page.locator("#volume-said")).to_contain_text("no WebGL 2")
    expect(page.locator("#planes")).to_be_hidden()
    assert_pictures_are_there(page)
    page.screenshot(path=shots / "study-without-webgl.png", full_page=True)
    page.keyboard.press("k")
    expect(page.locator(".picture strong")).to_have_text(f"Slice {HEAD.bright[0] + 2} of {HEAD.shape[0]}")


def assert_pictures_are_there(page: Page) -> None:
    pictures = page.locator("#heatmap img").all()
    assert len(pictures) == 1 + 12
    for picture in pictures:
        picture.scroll_into_view_if_needed()
        page.wait_for_function(
            "picture => picture.complete && picture.naturalWidth > 0", arg=picture.element_handle()
        )


def test_without_script_the_pictures_and_the_words_stay(chromium: Browser, address: str, viewed: str) -> None:
    context = chromium.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/studies/{viewed}")
    expect(page.get_by_text("Highest in slice 16 of 24: 0.90.")).to_be_visible()
    page.get_by_role("link", name="Next →").click()
    expect(page.get_by_role("img", name="Heatmap, slice 17 of 24")).to_be_visible()
    context.close()


def verdicts(rows: Store) -> list[tuple[str, int]]:
    with rows.transaction() as session:
        found = session.scalars(select(FeedbackRow).order_by(FeedbackRow.number, FeedbackRow.version))
        return [(row.verdict.value, row.version) for row in found]


def acts(rows: Store, key: str) -> list[str]:
    with rows.transaction() as session:
        found = session.scalars(
            select(AuditRow.action).where(AuditRow.study_key == key).order_by(AuditRow.number)
        )
        return [action for action in found if action.partition(".")[0] in {"feedback", "identity"}]


def test_feedback_is_one_key_and_another_corrects_it(page: Page, rows: Store, viewed: str) -> None:
    page.goto(f"/studies/{viewed}")
    page.keyboard.press("2")
    expect(page.locator("#answer")).to_have_text("Stored: false alarm.")
    page.keyboard.press("2")
    expect(page.locator("#answer")).to_have_text("You said that already: false alarm.")
    page.keyboard.press("1")
    expect(page.locator("#answer")).to_have_text("Corrected to: confirmed finding.")
    expect(page.get_by_role("button", name="Confirmed finding")).to_have_attribute("aria-pressed", "true")

    assert verdicts(rows) == [("false_alarm", 1), ("confirmed_finding", 2)]
    assert acts(rows, viewed) == ["feedback.given", "feedback.corrected"]
    page.reload()
    expect(page.locator("#given")).to_have_text(re.compile("You said at .*: confirmed finding"))


def test_a_second_key_grades_a_finding_and_nothing_else(page: Page, rows: Store, viewed: str) -> None:
    page.goto(f"/studies/{viewed}")
    page.keyboard.press("6")
    expect(page.locator("#answer")).to_have_text(re.compile("(Stored|Corrected to): extraction failure"))
    expect(page.locator("#grades")).to_be_hidden()
    page.keyboard.press("9")
    expect(page.locator("#answer")).to_have_text("Only a confirmed finding is graded: press 1 before.")
    page.keyboard.press("1")
    expect(page.locator("#grades")).to_be_visible()
    page.keyboard.press("9")
    expect(page.locator("#answer")).to_have_text("Corrected to: confirmed finding, C2.")
    expect(page.get_by_role("button", name="C2")).to_have_attribute("aria-pressed", "true")
    with rows.transaction() as session:
        newest = session.scalars(select(FeedbackRow).order_by(FeedbackRow.id.desc()).limit(1)).one()
    assert (newest.verdict.value, newest.conspicuity) == ("confirmed_finding", 2)


def test_seen_is_said_and_taken_back_by_a_key_and_never_by_looking(
    page: Page, rows: Store, viewed: str
) -> None:
    def seen_by() -> str | None:
        with rows.transaction() as session:
            return session.scalars(select(StudyRow.seen_by).where(StudyRow.key == viewed)).one()

    page.goto(f"/studies/{viewed}")
    assert seen_by() is None
    page.keyboard.press("s")
    expect(page.locator("#answer")).to_have_text("Seen by anybody on this machine.")
    assert seen_by() == "anybody on this machine"
    page.keyboard.press("s")
    expect(page.locator("#answer")).to_have_text("No longer marked as seen.")
    assert seen_by() is None


def test_an_identity_is_in_the_page_only_after_it_was_revealed_and_then_as_text(
    page: Page, rows: Store, viewed: str
) -> None:
    html = page.request.get(f"/studies/{viewed}").text()
    assert not [secret for secret in SECRETS if secret in html]
    page.goto(f"/studies/{viewed}")
    page.get_by_role("button", name="Reveal").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_contain_text(f"Musterfrau{MARKUP}")
    expect(page.locator("#who")).to_contain_text("PID-775533")
    assert page.locator("#who img").count() == 0
    assert "Musterfrau" not in page.title() + page.url
    assert acts(rows, viewed)[-1] == "identity.revealed"


def test_the_list_is_walked_through_and_left_by_keys(page: Page, viewed: str) -> None:
    page.goto("/?live=off")
    order = [row["key"] for row in page.request.get("/api/v1/worklist").json()["rows"]]
    assert order.index(viewed) > 0
    page.goto(f"/studies/{viewed}")
    page.keyboard.press("p")
    page.wait_for_url(f"**/studies/{order[order.index(viewed) - 1]}")
    page.keyboard.press("n")
    page.wait_for_url(f"**/studies/{viewed}")
    page.keyboard.press("u")
    page.wait_for_url("**/?live=off")
    page.goto(f"/studies/{order[-1]}")
    page.keyboard.press("n")
    expect(page.locator("#answer")).to_have_text("No study after this one in the list.")


def test_a_verdict_has_the_servers_time_and_what_another_reader_said_meanwhile(
    chromium: Browser, address: str, rows: Store
) -> None:
    seed = Seed(name="read by two")
    with rows.transaction() as session:
        plant(session, seed)
    context = chromium.new_context(base_url=address, timezone_id="Pacific/Kiritimati")
    page = context.new_page()
    page.goto(f"/studies/{seed.key}")
    expect(page.locator("#given")).to_have_text("No feedback from you yet.")
    with rows.transaction() as session:
        finding = feedback.Opinion(verdict=Verdict.CONFIRMED_FINDING)
        feedback.give(session, seed.key, finding, actor="grace")
    times = [f"{datetime.now().astimezone() + timedelta(minutes=late):%H:%M}" for late in range(10)]
    for key, said in (("3", "artefact"), ("2", "false alarm")):
        page.keyboard.press(key)
        expect(page.locator("#given")).to_have_text(
            re.compile(rf"You said at ({'|'.join(times)}): {said}\. .* grace: confirmed finding\.")
        )
    context.close()


def test_keys_can_be_switched_off(page: Page, rows: Store, viewed: str) -> None:
    before = verdicts(rows)
    page.goto(f"/studies/{viewed}")
    page.keyboard.press("?")
    page.get_by_label("Single keys work on this page").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("3")
    page.keyboard.press("u")
    page.wait_for_timeout(300)
    assert page.url.endswith(viewed)
    assert verdicts(rows) == before


@pytest.mark.parametrize("seed", [DECLINED, BROKEN, WAITING])
def test_what_was_not_scored_shows_no_number_and_no_heatmap(page: Page, seed: Seed, shots: Path) -> None:
    page.goto(f"/studies/{seed.key}")
    page.screenshot(path=shots / f"study-{seed.state}.png", full_page=True)
    assert page.locator(".big, .scale, canvas, figure, #heatmap img").count() == 0
    expect(page.locator("#heatmap")).to_contain_text("There is no heatmap")
    if seed is not WAITING:
        expect(page.locator(".verdict.unjudged")).to_contain_text("a person must look at this study")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_rule_of_accessibility_is_broken(live: Page, theme: str, shots: Path) -> None:
    live.get_by_label("Theme").select_option(theme)
    live.locator("details").first.evaluate("details => { details.open = true }")
    live.locator(".card").evaluate("details => { details.open = true }")
    live.screenshot(path=shots / f"study-{theme}-open.png", full_page=True)
    assert broken(live) == []
    live.goto(f"/studies/{DECLINED.key}")
    assert broken(live) == []


def broken(page: Page) -> list[str]:
    """Rules that axe finds broken, with what breaks them."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("width", [WIDTH, WIDTH // 2, 400])
def test_no_width_needs_sideways_scrolling(page: Page, viewed: str, width: int, shots: Path) -> None:
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.goto(f"/studies/{viewed}")
    page.screenshot(path=shots / f"study-{width}.png")
    root = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert root[0] == root[1]


def test_everything_is_reached_by_the_tab_key_alone(page: Page, viewed: str) -> None:
    page.goto(f"/studies/{viewed}")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.verdict"
                " || document.activeElement.textContent.trim()"
            )
        )
    assert {"seen", "reveal", "show-keys", "theme"} <= reached
    assert {"confirmed_finding", "wrong_study", "resend", str(HEAD.bright[0] + 1)} <= reached

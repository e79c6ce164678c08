"""What a person does on the list, with the distribution's browser: keys, forms, nothing from elsewhere."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, expect
from sqlalchemy import select, text, update

from dicom_node.results import BuiltResult, ResultContext, build_results, encode
from models.scores import Scores
from models.volume import Volume
from service import __version__
from service.access import Identity
from service.api import create_app
from service.settings import Settings
from service.store import Store, identities
from service.store.tables import AuditRow, StudyRow
from service.study import DeliveryStatus, Priority, State
from tests.browser.conftest import Serve
from tests.phantoms import Phantom
from tests.seeds import MODEL, MORNING, NEVER_OVERDUE_S, REGIONS, Seed, plant

pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.slow]

FRAMES = 12
WIDTH, HEIGHT = 1280, 860
DELIVERED = {"archive": DeliveryStatus.DELIVERED}
REFERENCE = (0.4, 0.6, 0.7, 0.9, 1.1, 1.4)  # raw scores of the reference group
NAME = "Musterfrau^Zenobia"
PATIENT_ID = "PID-775533"
SECRETS = ("Musterfrau", "Zenobia", PATIENT_ID)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
NOW = datetime.now(UTC)

UNUSUAL = Seed(
    name="unusual",
    description="synthetic lesion, dark, 25 mm",
    p_value=1 / 7,
    study_score=3.2,
    regions=REGIONS,
    pictures=FRAMES,
    received_at=NOW - timedelta(minutes=42),
    results={"seg": DELIVERED, "sc": DELIVERED, "sr": DELIVERED},
)
USUAL = Seed(
    name="usual",
    description="normal",
    p_value=5 / 7,
    study_score=0.65,
    received_at=NOW - timedelta(minutes=31),
    results={"sc": {"archive": DeliveryStatus.UNDELIVERED}},
)
MIDDLE = Seed(name="middle", description="MR brain", p_value=3 / 7, received_at=NOW - timedelta(minutes=20))
DECLINED = Seed(
    name="declined",
    description="survey",
    state=State.NOT_ASSESSABLE,
    reason="localiser",
    detail="all 3 images say LOCALIZER",
    received_at=NOW - timedelta(minutes=12),
    results={"sr": DELIVERED},
)
BROKEN = Seed(
    name="broken", description="MR brain, again", state=State.FAILED, received_at=NOW - timedelta(hours=2)
)
WAITING = Seed(
    name="waiting",
    description="still to come",
    state=State.QUEUED,
    received_at=NOW - timedelta(minutes=2),
)
SEEDS = (UNUSUAL, USUAL, MIDDLE, DECLINED, BROKEN, WAITING)

PHANTOM = Phantom(shape=(FRAMES, 80, 64), spacing_mm=(6.0, 2.0, 2.0))


def heatmap() -> BuiltResult:
    """Secondary capture of a grey ellipsoid with one hot spot, as the worker makes it."""
    index, row, column = np.mgrid[:FRAMES, :80, :64]
    inside = ((index - 5.5) / 6.5) ** 2 + ((row - 40) / 36) ** 2 + ((column - 32) / 28) ** 2 < 1
    voxels = np.where(inside, 500 + 60 * np.sin(row / 4) * np.cos(column / 5), 0).astype(np.float32)
    distance = (3 * (index - 2)) ** 2 + (row - 34) ** 2 + (column - 40) ** 2
    hot = (np.exp(-distance / 40) * inside).astype(np.float32)
    context = ResultContext(
        sources=PHANTOM.datasets(),
        volume=Volume(voxels=voxels, spacing_mm=PHANTOM.spacing_mm, affine=np.diag([6.0, 2.0, 2.0, 1.0])),
        scores=Scores(
            study_score=UNUSUAL.study_score,
            p_value=UNUSUAL.p_value,
            heads={},
            map=hot,
            bands=(0.3, 0.5, 0.7),
            regions=(),
            model=MODEL,
        ),
        reason=None,
        detail="",
        model=MODEL,
        config_digest="d" * 64,
        content_hash="c" * 64,
        run_at=MORNING,
        software_version=__version__,
        predecessor_sr=None,
    )
    return next(result for result in build_results(context) if result.kind == "sc")


@pytest.fixture(scope="module")
def address(database_url: str, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the application, served for real; each test plants its own studies."""
    settings = Settings(data=tmp_path_factory.mktemp("data"), access="open", longest_unread_s=NEVER_OVERDUE_S)
    stored = settings.results_folder / UNUSUAL.key / "sc.dcm"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(encode(heatmap().dataset))
    own = Store.open(database_url)
    app = create_app(store=own, settings=settings, model=MODEL, reference=lambda: REFERENCE)
    with serve(app) as served:
        yield served
    own.close()


@pytest.fixture
def page(chromium: Browser, address: str, store: Store) -> Iterator[Page]:
    """Page at the list of six studies, dark; every word on the console fails the test."""
    with store.transaction() as session:
        plant(session, *SEEDS)
        session.execute(
            update(StudyRow).where(StudyRow.key == MIDDLE.key).values(priority=int(Priority.URGENT))
        )
        session.execute(text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())"))
        named = Identity(name=NAME, patient_id=PATIENT_ID, age_years=54.0, sex="F")
        for seed in SEEDS:
            identities.note(session, seed.key, named)
    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, base_url=address)
    said: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto("/")
    yield page
    context.close()
    assert said == []


def keys_shown(page: Page) -> list[str]:
    """Keys of the rows in the order a person sees them."""
    return [str(row.get_attribute("data-key")) for row in page.locator("#list tbody tr").all()]


def test_the_page_shows_the_order_of_the_api(page: Page, shots: Path) -> None:
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    answer = page.request.get("/api/v1/worklist").json()
    assert keys_shown(page) == [row["key"] for row in answer["rows"]]
    expect(page.locator("#connection.live")).to_be_visible()
    page.screenshot(path=shots / "list-dark.png", full_page=True)
    page.get_by_label("Theme").select_option("light")
    page.screenshot(path=shots / "list-light.png", full_page=True)


def focused(page: Page) -> str | None:
    """Key of the row that has focus."""
    found = page.evaluate("document.activeElement.closest('tr')?.dataset.key ?? null")
    return None if found is None else str(found)


def study_of(store: Store, key: str) -> StudyRow:
    with store.transaction() as session:
        return session.scalars(select(StudyRow).where(StudyRow.key == key)).one()


def audited(store: Store, action: str) -> list[tuple[str, str | None]]:
    """Who did it, and to which study."""
    with store.transaction() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == action).order_by(AuditRow.number))
        return [(row.actor, row.study_key) for row in rows]


def test_three_studies_are_triaged_by_keys_alone(page: Page, store: Store) -> None:
    first, second, third = keys_shown(page)[:3]
    for key in (first, second):
        page.keyboard.press("j")
        assert focused(page) == key
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"  # one sees where one is
        page.keyboard.press("s")
        expect(page.locator(f"#row-{key} .done")).to_have_text(re.compile("Seen"))
        assert focused(page) == key
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    assert focused(page) == second
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/studies/{third}")
    assert [key for _, key in audited(store, "study.seen")] == [first, second]


NEW = [
    replace(UNUSUAL, name=f"new {number}", p_value=0.01 * number, pictures=0, results={})
    for number in range(1, 5)
]


def planted_while_open(page: Page, store: Store, *seeds: Seed) -> None:
    """Studies that come while the page listens."""
    expect(page.locator("#connection.live")).to_be_visible()
    with store.transaction() as session:
        plant(session, *seeds)


def test_a_new_study_appears_in_place_while_nobody_reads(page: Page, store: Store) -> None:
    planted_while_open(page, store, NEW[0])
    row = page.locator(f".band.ranked #row-{NEW[0].key}")
    expect(row).to_be_visible()
    expect(row.locator(".rank")).to_have_text("2")  # the urgent one stays above
    answer = page.request.get("/api/v1/worklist").json()
    assert keys_shown(page) == [row["key"] for row in answer["rows"]]
    expect(page.locator("#news")).to_be_empty()


def test_rows_never_move_under_the_readers_focus(page: Page, store: Store) -> None:
    for _ in range(4):
        page.keyboard.press("j")
    reading, before = focused(page), keys_shown(page)
    assert reading == UNUSUAL.key
    place = page.locator(f"#row-{reading}").bounding_box()
    planted_while_open(page, store, *NEW)
    expect(page.locator("#news")).to_have_text("4 new studies, press r")
    assert keys_shown(page) == before
    assert focused(page) == reading
    assert page.locator(f"#row-{reading}").bounding_box() == place
    page.keyboard.press("r")
    for seed in NEW:
        expect(page.locator(f"#row-{seed.key}")).to_be_visible()
    expect(page.locator("#news")).to_be_empty()
    assert focused(page) == reading


def test_a_changed_row_tells_its_state_where_it_stands(page: Page, store: Store) -> None:
    page.locator(f"#study-{UNUSUAL.key}").focus()
    expect(page.locator("#connection.live")).to_be_visible()
    with store.transaction() as session:
        changed = {"state": State.FAILED, "reason": "attempts_used_up", "ended_at": NOW}
        session.execute(update(StudyRow).where(StudyRow.key == WAITING.key).values(changed))
    expect(page.locator(f".band.pending #state-{WAITING.key}")).to_have_text("failed")
    expect(page.locator("#news")).to_have_text("1 changed study, press r")
    assert focused(page) == UNUSUAL.key


def test_a_lost_connection_is_told(chromium: Browser, page: Page) -> None:
    context = chromium.new_context(base_url=page.url)
    cut = context.new_page()
    cut.route("**/api/v1/events*", lambda route: route.abort())
    cut.goto("/")
    expect(cut.locator("#connection.lost")).to_have_text("Connection lost, trying again")
    context.close()


def test_slash_and_question_mark_lead_to_filter_and_keys(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("jk?r")  # letters are text in a field
    expect(page.get_by_label("Study, modality or sender")).to_have_value("jk?r")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.get_by_label("Single keys work on this page").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    assert focused(page) is None


def test_everything_is_reached_by_the_tab_key_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
    wanted = {UNUSUAL.description, "Try again", "Mark seen", "Reveal", "Filter", "filter-text", "As a table"}
    assert wanted <= reached


def test_a_failed_study_never_looks_like_a_usual_one(page: Page) -> None:
    usual = page.locator(f"#row-{USUAL.key}")
    for seed in (BROKEN, DECLINED):
        row = page.locator(f".band.unjudged #row-{seed.key}")
        expect(row).to_be_visible()
        assert not row.locator(".scale, .value, .rank, img").count()
        box, below = row.bounding_box(), usual.bounding_box()
        assert box is not None
        assert below is not None
        assert box["y"] < below["y"]
        badge = row.locator(".badge")
        assert badge.locator("svg.shape").count() == 1
        colour = "element => getComputedStyle(element).backgroundColor"
        assert page.locator(".band.unjudged").evaluate(colour) != page.locator(".band.ranked").evaluate(
            colour
        )


def test_a_failed_study_is_tried_again_on_the_spot(page: Page, store: Store) -> None:
    page.locator(f"#row-{BROKEN.key}").get_by_role("button", name="Try again").click()
    expect(page.locator(f"#row-{BROKEN.key} .badge")).to_have_text("queued")
    assert study_of(store, BROKEN.key).state is State.QUEUED
    assert [key for _, key in audited(store, "study.replayed")] == [BROKEN.key]


def test_no_answer_holds_a_name_until_a_reader_reveals_it(page: Page, store: Store) -> None:
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - it marks what it is given
    page.reload()
    row = page.locator(f"#row-{UNUSUAL.key}")
    expect(row.locator(".person")).to_contain_text("Z. M.")
    expect(row.locator(".person")).to_contain_text("54 y F")
    said = [page.request.get("/api/v1/worklist").text(), page.request.get(f"/studies/{UNUSUAL.key}").text()]
    said += [answer.url + str(answer.headers) for answer in answers]
    said += [answer.text() for answer in answers if answer.url.endswith("/")]
    assert len(said) > 6
    assert not [part for part in said for secret in SECRETS if secret in part]
    row.get_by_role("button", name="Reveal").click()
    expect(row.locator(".person")).to_contain_text("Musterfrau, Zenobia")
    expect(row.locator(".person")).to_contain_text(PATIENT_ID)
    assert page.locator("#list").inner_text().count("Musterfrau") == 1
    assert "Musterfrau" not in page.url + page.title()
    assert [key for _, key in audited(store, "identity.revealed")] == [UNUSUAL.key]


def test_the_list_breaks_no_rule_of_accessibility_in_either_theme_and_the_theme_stays(page: Page) -> None:
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    for theme in ("dark", "light"):
        page.get_by_label("Theme").select_option(theme)
        found = Axe().run(page, options={"runOnly": RULES})
        assert found.violations_count == 0, found.generate_report()
    page.goto(f"/studies/{USUAL.key}")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_reports_break_no_rule_of_accessibility_in_either_theme(page: Page, shots: Path) -> None:
    page.get_by_role("link", name="Reports").click()
    expect(page.get_by_role("heading", name="Sensitivity among read studies")).to_be_visible()
    for theme in ("dark", "light"):
        page.get_by_label("Theme").select_option(theme)
        page.screenshot(path=shots / f"reports-{theme}.png", full_page=True)
        found = Axe().run(page, options={"runOnly": RULES})
        assert found.violations_count == 0, found.generate_report()


def test_no_width_needs_sideways_scrolling(page: Page, shots: Path) -> None:
    group = "brain-mri-t1: adults without known finding, one scanner, skull-stripped T1, n = 6"
    page.locator("#pulse dd").last.evaluate("(it, words) => { it.textContent = words; }", group)
    for width in (WIDTH, WIDTH // 2, 400):  # whole, at 200 %, and a telephone's
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.screenshot(path=shots / f"list-{width}.png", full_page=True)
        root = page.locator("html")
        assert root.evaluate("it => it.scrollWidth") == root.evaluate("it => it.clientWidth")


def test_a_filter_is_an_address_and_gets_a_name(page: Page) -> None:
    page.get_by_label("Study, modality or sender").fill("lesion")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url("**/?text=lesion")
    assert keys_shown(page) == [UNUSUAL.key]
    page.get_by_label("Name of this filter").fill("lesions")
    page.get_by_role("button", name="Save").click()
    page.goto("/")
    page.get_by_role("link", name="lesions").click()
    page.wait_for_url("**/?text=lesion")
    assert keys_shown(page) == [UNUSUAL.key]
    page.get_by_role("button", name="Remove the saved filter lesions").click()
    expect(page.get_by_role("link", name="lesions")).to_have_count(0)


def test_no_request_leaves_the_origin(page: Page, address: str) -> None:
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.locator(f"#row-{UNUSUAL.key} img").scroll_into_view_if_needed()
    page.keyboard.press("r")
    page.locator(f"#study-{UNUSUAL.key}").click()
    page.wait_for_load_state()
    assert {"htmx.min.js", "worklist.js"} <= {url.rpartition("/")[2].partition("?")[0] for url in asked}
    assert [url for url in asked if not url.startswith(f"{address}/")] == []


def test_without_a_script_links_and_forms_do_the_same(chromium: Browser, page: Page) -> None:
    context = chromium.new_context(java_script_enabled=False, base_url=page.url)
    plain = context.new_page()
    plain.goto("/?live=off")
    plain.locator(f"#row-{UNUSUAL.key}").get_by_role("button", name="Mark seen").click()
    expect(plain.locator(f"#row-{UNUSUAL.key} .done")).to_be_visible()
    assert plain.url.endswith("/?live=off")
    plain.locator(f"#row-{UNUSUAL.key}").get_by_role("button", name="Reveal").click()
    expect(plain.locator(f"#row-{UNUSUAL.key} .person")).to_contain_text("Musterfrau, Zenobia")
    plain.get_by_role("link", name="← Worklist").click()
    plain.get_by_label("Priority").select_option("urgent")
    plain.get_by_role("button", name="Filter", exact=True).click()
    assert plain.url.endswith("/?priority=urgent")
    assert keys_shown(plain) == [MIDDLE.key]
    context.close()

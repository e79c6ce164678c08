"""The page of the scanners in a browser: an administrator sees a proposal and puts it in force."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from service.access import Role
from service.api import create_app
from service.calibrations import Calibrations
from service.commissioning import BY_SCANNER, Commissioning
from service.settings import Settings
from service.store import Store, calibrations, people
from service.study import Origin, State
from tests.browser.conftest import Serve
from tests.reference_documents import ELSEWHERE, HERE, OLDER, document
from tests.seeds import MODEL, MODEL_SHA256, Seed, plant

pytestmark = [pytest.mark.browser, pytest.mark.postgres]

NOW = datetime.now(UTC)
N = 24
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


@pytest.fixture
def page(store: Store, tmp_path: Path, chromium: Browser, serve: Serve) -> Iterator[Page]:
    """The page as an administrator sees it: one scanner is calibrated, one proposes, one has just come."""
    hitachi = HERE.model_copy(update={"manufacturer": "HITACHI", "model_name": "ECHELON"})
    with store.transaction() as session:
        made = document({ELSEWHERE: 60}, model_sha256=MODEL_SHA256, alike=BY_SCANNER, least=50)
        known = calibrations.propose(session, made, origin=Origin.FOLDER, actor="ada")
        calibrations.accept(session, known.id, actor="ada", reason="checked")
        new = {"state": State.NOT_ASSESSABLE, "reason": "uncalibrated"}
        for n in range(N):
            at = NOW - timedelta(hours=N - n)
            key = (HERE, OLDER)[n % 2].key
            plant(
                session,
                Seed(name=f"n{n}", study_score=n % 7 + n / 9, group_key=key, received_at=at, **new),
                Seed(name=f"r{n}", p_value=(n + 1) / 61, group_key=ELSEWHERE.key, received_at=at),
            )
        plant(session, Seed(name="h", group_key=hitachi.key, received_at=NOW - timedelta(hours=2), **new))
        secret = people.invite(session, Role.ADMIN, actor="test")
        people.accept(session, secret, name="ada", password=PASSWORD)
        cookie = people.sign_in(session, "ada", PASSWORD)
    Commissioning(store=store, model_hash=lambda: MODEL_SHA256, studies=N).propose(NOW)
    settings = Settings(data=tmp_path, site="north", commission_studies=N)
    app = create_app(store=store, settings=settings, model=MODEL, calibrations=Calibrations(site="north"))
    with serve(app) as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": "vigil_session", "value": cookie, "url": address}])
        shown = context.new_page()
        shown.goto(f"{address}/scanners")
        yield shown
        context.close()


def test_an_administrator_puts_a_proposal_in_force_and_the_scanner_is_calibrated(
    page: Page, store: Store, shots: Path
) -> None:
    for theme in ("dark", "light"):
        page.evaluate(f"localStorage.setItem('vigil-theme', '{theme}')")
        page.reload()
        page.screenshot(path=shots / f"scanners-{theme}.png", full_page=True)
        broken = [(rule["id"], rule["nodes"][0]["html"]) for rule in Axe().run(page).response["violations"]]
        assert broken == []
    rows = page.locator("tbody tr").filter(has=page.locator("th[scope=row]"))
    expect(page.locator("tr", has_text="SKYRA")).to_contain_text("Not calibrated")
    expect(rows.filter(has_text="SIGNA")).to_contain_text("n = 60")

    proposal = page.locator(".proposal")
    proposal.get_by_label("Why").fill("looks like the others")
    proposal.get_by_role("button", name="Accept").click()

    expect(page.locator("tr", has_text="SKYRA")).to_contain_text(f"n = {N}")
    expect(page.locator("tr", has_text="ECHELON")).to_contain_text("Not calibrated")
    expect(page.locator(".proposal")).to_have_count(0)
    page.get_by_role("button", name="Score again").click()
    expect(page.get_by_role("status")).to_contain_text(f"{N} studies are queued again; 1 still has no")
    with store.transaction() as session:
        newest = calibrations.listed(session)[0]
    assert (newest.state, newest.decided_by, newest.origin) == ("accepted", "ada", Origin.COMMISSIONING)

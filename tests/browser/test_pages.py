"""What a person does on the list, with the distribution's browser: keys, forms, and nothing from elsewhere."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, expect
from sqlalchemy import text, update

from dicom_node.results import BuiltResult, ResultContext, build_results, encode
from models.scores import Scores
from models.volume import Volume
from service import __version__
from service.access import Identity
from service.api import create_app
from service.settings import Settings
from service.store import Store, identities
from service.store.tables import StudyRow
from service.study import DeliveryStatus, Priority, State
from tests.browser.conftest import Serve
from tests.phantoms import Phantom
from tests.seeds import MODEL, MORNING, REGIONS, Seed, plant

pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.slow]

FRAMES = 12
WIDTH, HEIGHT = 1280, 860
DELIVERED = {"archive": DeliveryStatus.DELIVERED}
REFERENCE = (0.4, 0.6, 0.7, 0.9, 1.1, 1.4)  # raw scores of the reference group
NAME = "Musterfrau^Zenobia"
PATIENT_ID = "PID-775533"
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
MIDDLE = Seed(
    name="middle", description="MR brain", p_value=3 / 7, received_at=NOW - timedelta(minutes=20)
)
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
    settings = Settings(data=tmp_path_factory.mktemp("data"), access="open")
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
    answer = page.request.get("/api/v1/worklist").json()
    assert keys_shown(page) == [row["key"] for row in answer["rows"]]
    page.screenshot(path=shots / "list-dark.png", full_page=True)
    page.get_by_label("Theme").select_option("light")
    page.screenshot(path=shots / "list-light.png", full_page=True)

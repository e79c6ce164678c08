import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from dicom_node.results import BuiltResult, ResultContext, build_results, encode
from models.scores import Scores
from models.volume import Volume
from service import __version__
from service.api import create_app
from service.api.dependencies import DISCLAIMER
from service.settings import Settings
from service.store import Store
from service.study import DeliveryStatus, State
from tests.phantoms import Phantom
from tests.seeds import MODEL, MORNING, NEVER_OVERDUE_S, REGIONS, Seed, plant

pytestmark = [pytest.mark.browser, pytest.mark.postgres, pytest.mark.slow]

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FRAMES = 12
DELIVERED = {"archive": DeliveryStatus.DELIVERED}

UNUSUAL = Seed(
    name="unusual",
    description="synthetic lesion, dark, 25 mm",
    p_value=1 / 7,
    study_score=3.2,
    regions=REGIONS,
    pictures=FRAMES,
    results={"seg": DELIVERED, "sc": DELIVERED, "sr": DELIVERED},
)
USUAL = Seed(name="usual", description="normal", p_value=5 / 7, results={"sc": DELIVERED})
DECLINED = Seed(
    name="declined",
    description="survey",
    state=State.NOT_ASSESSABLE,
    reason="localiser",
    detail="all 3 images say LOCALIZER",
    results={"sr": DELIVERED},
)
WAITING = Seed(name="waiting", description="still to come", state=State.QUEUED)


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


@pytest.fixture
def address(store: Store, tmp_path: Path) -> Iterator[str]:
    """Address of the application, served for real, on four studies."""
    settings = Settings(data=tmp_path, access="open", longest_unread_s=NEVER_OVERDUE_S)
    stored = settings.results_folder / UNUSUAL.key / "sc.dcm"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(encode(heatmap().dataset))
    with store.transaction() as session:
        plant(session, UNUSUAL, USUAL, DECLINED, WAITING)
    app = create_app(store=store, settings=settings, model=MODEL)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Headless browser with a profile of its own."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def look(driver: webdriver.Chrome, *, width: int, is_dark: bool) -> None:
    """Set the width of the window and the colour scheme."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def text_of(driver: webdriver.Chrome, selector: str) -> str:
    return driver.find_element(By.CSS_SELECTOR, selector).text


def all_pictures_are_there(driver: webdriver.Chrome) -> bool:
    pictures = driver.find_elements(By.CSS_SELECTOR, "#heatmap img")
    return len(pictures) == 1 + FRAMES and all(picture.get_property("naturalWidth") for picture in pictures)


def test_a_person_finds_the_order_the_reasons_and_the_heatmap(
    address: str, chromium: webdriver.Chrome, tmp_path: Path
) -> None:
    look(chromium, width=1280, is_dark=False)
    chromium.get(f"{address}/?live=off")
    chromium.save_screenshot(str(tmp_path / "list.png"))
    assert text_of(chromium, "header") == f"Vigil\n{MODEL.disclaimer} {DISCLAIMER}"
    assert "It holds localiser (scout) images only." in text_of(chromium, ".band.unjudged")
    ranked = chromium.find_elements(By.CSS_SELECTOR, ".band.ranked tbody tr")
    assert [row.find_element(By.CSS_SELECTOR, ".rank").text for row in ranked] == ["1", "2"]
    assert [row.find_element(By.CSS_SELECTOR, ".value").text for row in ranked] == ["14.3", "71.4"]
    assert "SEG ✓" in ranked[0].text.replace("\xa0", " ")
    assert "still to come" in text_of(chromium, ".band.pending")

    chromium.find_element(By.LINK_TEXT, UNUSUAL.description).click()
    WebDriverWait(chromium, 30).until(all_pictures_are_there)
    chromium.save_screenshot(str(tmp_path / "study.png"))
    assert text_of(chromium, ".big") == "14.3"
    assert "None of the 6 reference studies" in text_of(chromium, ".sentence")
    picture = chromium.find_element(By.CSS_SELECTOR, "figure img")
    assert picture.get_attribute("alt") == f"Heatmap, slice 3 of {FRAMES}"
    assert picture.get_property("naturalWidth") == heatmap().dataset.Columns

    chromium.find_element(By.LINK_TEXT, "Next →").click()
    assert text_of(chromium, "figcaption strong") == f"Slice 4 of {FRAMES}"
    assert chromium.get_log("browser") == []


def test_a_study_without_a_score_shows_its_reason_and_no_number(
    address: str, chromium: webdriver.Chrome, tmp_path: Path
) -> None:
    look(chromium, width=1280, is_dark=True)
    chromium.get(f"{address}/studies/{DECLINED.key}")
    chromium.save_screenshot(str(tmp_path / "not_assessable.png"))
    box = text_of(chromium, ".verdict")
    assert "No score: a person must look at this study" in box
    assert DECLINED.detail in box
    assert not chromium.find_elements(By.CSS_SELECTOR, ".big, .scale, figure")
    assert chromium.get_log("browser") == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_narrow_window_needs_no_sideways_scrolling(
    address: str, chromium: webdriver.Chrome, tmp_path: Path, is_dark: bool
) -> None:
    look(chromium, width=400, is_dark=is_dark)
    for name, path in (("list", "/?live=off"), ("study", f"/studies/{UNUSUAL.key}")):
        chromium.get(f"{address}{path}")
        chromium.save_screenshot(str(tmp_path / f"narrow_{name}.png"))
        root = chromium.find_element(By.TAG_NAME, "html")
        assert root.get_property("scrollWidth") == root.get_property("clientWidth")
    page = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in page.removeprefix("rgb(").removesuffix(")").split(","))
    assert (brightness < 3 * 128) == is_dark


def test_the_keyboard_reaches_the_first_study_and_shows_where_it_is(
    address: str, chromium: webdriver.Chrome
) -> None:
    look(chromium, width=1280, is_dark=False)
    chromium.get(f"{address}/?live=off")
    for _ in range(12):
        chromium.switch_to.active_element.send_keys(Keys.TAB)
        active = chromium.switch_to.active_element
        if active.text == DECLINED.description:
            break
    assert active.text == DECLINED.description
    assert active.value_of_css_property("outline-style") == "solid"
    active.send_keys(Keys.ENTER)
    assert chromium.current_url == f"{address}/studies/{DECLINED.key}"

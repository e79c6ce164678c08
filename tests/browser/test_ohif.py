"""The published OHIF viewer shows a study and our results from Vigil's DICOMweb. Long: it fetches 50 MB."""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error, Page, sync_playwright
from pydicom.dataset import FileDataset

from dicom_node.results import DEFAULT_KINDS, BuiltResult, ResultKind, build_results
from models.aggregation import find_regions
from service.api import create_app
from service.settings import Settings
from service.store import Store
from tests.archive import Archive
from tests.browser import ohif
from tests.browser.conftest import CHROMIUM, Serve
from tests.conftest import empty
from tests.dicom_node.results.scenes import BANDS, context_of
from tests.phantoms import Phantom, set_pixels

ARGUMENTS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
WINDOW = {"width": 1500, "height": 950}
PATIENCE_MS = 90_000
SHAPE = (24, 128, 128)
VIEWPORT = np.s_[180:740, 300:1430]  # of a picture of the window

pytestmark = [
    pytest.mark.browser,
    pytest.mark.postgres,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed"),
]


@dataclass(frozen=True, slots=True)
class Shown:
    """A browser in front of a viewer that knows one study with its results."""

    page: Page
    address: str
    study_uid: str
    series_uids: dict[str, str]  # of the source and of each kind

    def open(self, series: str) -> np.ndarray:
        """Show a series; the picture of the viewport once it stands still, uint8 (rows, columns, 3)."""
        self.page.goto(
            f"{self.address}/viewer?StudyInstanceUIDs={self.study_uid}"
            f"&initialSeriesInstanceUID={self.series_uids[series]}"
        )
        self.wait_for("S:9004")
        self.press("Skip all")
        return self.picture(series)

    def wait_for(self, words: str) -> None:
        self.page.get_by_text(words).first.wait_for(timeout=PATIENCE_MS)

    def text(self) -> str:
        return self.page.locator("body").inner_text()

    def press(self, words: str) -> None:
        """Press a button where there is one: the viewer's tour and its questions come when they like."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            for button in self.page.get_by_text(words, exact=True).all():
                try:
                    button.click(timeout=1000)
                except Error:
                    continue
                return
            self.page.wait_for_timeout(500)

    def picture(self, name: str) -> np.ndarray:
        """The viewport, when two looks at it agree and it is not black."""
        before = np.zeros(0)
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            self.page.wait_for_timeout(2000)
            screen = self.page.screenshot()
            now = np.asarray(Image.open(io.BytesIO(screen)).convert("RGB"))[VIEWPORT]
            if now.max() > 200 and np.array_equal(before, now):
                break
            before = now
        if folder := os.environ.get("VIGIL_SCREENSHOTS"):
            Path(folder, f"ohif-{name}.png").write_bytes(screen)
        return now


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, database_url: str, serve: Serve) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("ohif")
    viewer = ohif.fetch(folder)
    if viewer is None:
        pytest.skip(f"{ohif.PACKAGE} cannot be fetched; set VIGIL_TEST_OHIF to its folder dist")
    sources, results = study(folder)
    store, settings = Store.open(database_url), Settings(data=folder / "data", access="open")
    empty(store)
    archive = Archive(store, settings)
    key = archive.receive(sources)
    for result in results:
        archive.keep(key, result.kind, result.dataset)
    uids = {"source": sources[0].SeriesInstanceUID} | {
        result.kind: result.dataset.SeriesInstanceUID for result in results
    }
    with (
        serve(create_app(store=store, settings=settings)) as vigil,
        ohif.serve(viewer, vigil) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": WINDOW["width"], "height": WINDOW["height"]})
        yield Shown(page, address, str(sources[0].StudyInstanceUID), uids)
        browser.close()
    store.close()


def study(folder: Path) -> tuple[list[FileDataset], tuple[BuiltResult, ...]]:
    """Images of an ellipsoid with a hot spot off its middle, and its results."""
    phantom = Phantom(shape=SHAPE, spacing_mm=(4.0, 1.5, 1.5), bright=(12, 60, 60), name="ohif")
    index, row, column = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = ((index - 11.5) / 12) ** 2 + ((row - 64) / 56) ** 2 + ((column - 64) / 46) ** 2 < 1
    voxels = np.where(inside, 500 + 80 * np.sin(row / 6) * np.cos(column / 5), 0).astype(np.uint16)
    datasets = phantom.datasets()
    for dataset, pixels in zip(datasets, voxels, strict=True):
        set_pixels(dataset, pixels)
    context = context_of(folder / "sources", datasets, bright=phantom.bright)
    assert context.scores is not None
    assert context.volume is not None
    distance = (3 * (index - 12)) ** 2 + (row - 60) ** 2 + (column - 80) ** 2
    hot = (np.exp(-distance / 150) * inside).astype(np.float32)
    regions = find_regions(
        hot, BANDS[0], affine=context.volume.affine, voxel_mm3=context.volume.voxel_mm3, min_mm3=30.0
    )
    context = replace(
        context,
        scores=replace(context.scores, map=hot, regions=regions),
        kinds=DEFAULT_KINDS | {ResultKind.PARAMETRIC_MAP},
    )
    return datasets, tuple(build_results(context))


def coloured(picture: np.ndarray) -> int:
    """Pixels that are no grey."""
    levels = picture.astype(int)
    return int((levels.max(axis=2) - levels.min(axis=2) > 60).sum())


def test_the_segmentation_lies_over_its_source_in_colour_with_its_labels(shown: Shown) -> None:
    assert coloured(shown.open("source")) < 50
    assert coloured(shown.open("seg")) > 500
    shown.press("Yes")
    shown.picture("seg-yes")
    shown.page.locator("[data-cy*='egmentation']").first.click()  # its list of segments
    shown.wait_for("Anomaly band 3 (high)")
    shown.picture("seg-opened")
    for label in ("Anomaly band 1 (low)", "Anomaly band 2 (middle)"):
        assert label in shown.text()


def test_the_secondary_capture_is_shown_with_its_colour_bar(shown: Shown) -> None:
    picture = shown.open("sc")
    assert coloured(picture[:, -180:]) > 2000  # the bar stands at the right
    assert "AI anomaly overlay - not for diagnostic use" in shown.text()


def test_the_parametric_map_lies_over_its_source(shown: Shown) -> None:
    assert coloured(shown.open("pm")) > 500

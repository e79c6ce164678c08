"""The published OHIF viewer shows our objects from Orthanc. Long: it fetches 50 MB and starts a browser."""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from dicom_node.results import DEFAULT_KINDS, ResultKind, build_results, encode
from dicom_node.scu import send_files
from models.aggregation import find_regions
from tests.browser import ohif
from tests.dicom_node.results.scenes import BANDS, context_of
from tests.end_to_end.peers import MISSING, orthanc
from tests.phantoms import Phantom, set_pixels

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--no-first-run", "--window-size=1500,950", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
PATIENCE_S = 90
SHAPE = (24, 128, 128)
VIEWPORT = np.s_[180:740, 300:1430]  # of a picture of the window

pytestmark = [
    pytest.mark.browser,
    pytest.mark.peers,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"),
    pytest.mark.skipif(not ohif.PLUGIN.exists(), reason="Orthanc's DICOMweb plugin is not installed"),
]


@dataclass(frozen=True, slots=True)
class Shown:
    """A browser in front of a viewer that knows one study with its results."""

    driver: webdriver.Chrome
    address: str
    study_uid: str
    series_uids: dict[str, str]  # of the source and of each kind

    def open(self, series: str) -> np.ndarray:
        """Show a series; the picture of the viewport once it stands still, uint8 (rows, columns, 3)."""
        self.driver.get(
            f"{self.address}/viewer?StudyInstanceUIDs={self.study_uid}"
            f"&initialSeriesInstanceUID={self.series_uids[series]}"
        )
        WebDriverWait(self.driver, PATIENCE_S).until(lambda _: "S:9004" in self.text())
        self.press("Skip all")
        return self.picture(series)

    def text(self) -> str:
        try:
            return self.driver.find_element(By.TAG_NAME, "body").text
        except WebDriverException:
            return ""

    def press(self, words: str) -> None:
        """Press a button where there is one: the viewer's tour and its questions come when they like."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            for button in self.driver.find_elements(By.XPATH, f"//*[normalize-space(text())='{words}']"):
                try:
                    button.click()
                except WebDriverException:
                    continue
                return
            time.sleep(0.5)

    def picture(self, name: str) -> np.ndarray:
        """The viewport, when two looks at it agree and it is not black."""
        before = np.zeros(0)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(2)
            screen = self.driver.get_screenshot_as_png()
            now = np.asarray(Image.open(io.BytesIO(screen)).convert("RGB"))[VIEWPORT]
            if now.max() > 200 and np.array_equal(before, now):
                break
            before = now
        if folder := os.environ.get("VIGIL_SCREENSHOTS"):
            Path(folder, f"ohif-{name}.png").write_bytes(screen)
        return now


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("ohif")
    viewer = ohif.fetch(folder)
    if viewer is None:
        pytest.skip(f"{ohif.PACKAGE} cannot be fetched; set VIGIL_OHIF to its folder dist")
    paths, uids = study(folder)
    with (
        orthanc(folder / "orthanc", Plugins=[str(ohif.PLUGIN)], DicomWeb={"Enable": True}) as archive,
        ohif.serve(viewer, f"http://127.0.0.1:{archive.http_port}") as address,
    ):
        receipts = send_files(
            paths, host="127.0.0.1", port=archive.dicom_port, calling_aet="VIGIL", called_aet="ORTHANC"
        )
        assert all(receipt.is_stored for receipt in receipts)
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in ARGUMENTS:
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        try:
            yield Shown(driver, address, uids.pop("study"), uids)
        finally:
            driver.quit()


def study(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Files of an ellipsoid with a hot spot off its middle, and of its results."""
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
    uids = {"study": context.study_uid, "source": str(datasets[0].SeriesInstanceUID)}
    for result in build_results(context):
        (folder / f"{result.kind}.dcm").write_bytes(encode(result.dataset))
        uids[result.kind] = str(result.dataset.SeriesInstanceUID)
    return [*sorted((folder / "sources").iterdir()), *sorted(folder.glob("*.dcm"))], uids


def coloured(picture: np.ndarray) -> int:
    """Pixels that are no grey."""
    levels = picture.astype(int)
    return int((levels.max(axis=2) - levels.min(axis=2) > 60).sum())


def test_the_segmentation_lies_over_its_source_in_colour_with_its_labels(shown: Shown) -> None:
    assert coloured(shown.open("source")) < 50
    assert coloured(shown.open("seg")) > 500
    shown.press("Yes")
    shown.picture("seg-yes")
    shown.driver.find_element(By.CSS_SELECTOR, "[data-cy*='egmentation']").click()  # its list of segments
    WebDriverWait(shown.driver, PATIENCE_S).until(lambda _: "Anomaly band 3 (high)" in shown.text())
    shown.picture("seg-opened")
    for label in ("Anomaly band 1 (low)", "Anomaly band 2 (middle)"):
        assert label in shown.text()


def test_the_secondary_capture_is_shown_with_its_colour_bar(shown: Shown) -> None:
    picture = shown.open("sc")
    assert coloured(picture[:, -180:]) > 2000  # the bar stands at the right
    assert "AI anomaly overlay - not for diagnostic use" in shown.text()


def test_the_parametric_map_lies_over_its_source(shown: Shown) -> None:
    assert coloured(shown.open("pm")) > 500

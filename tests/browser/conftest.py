"""A browser and a server for the tests that press keys."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect, sync_playwright

from tests.served import served

# The first page of a checkout compiles what it needs, beside three other workers on two processors.
expect.set_options(timeout=30_000)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--host-resolver-rules=MAP vigil.lan 127.0.0.1",  # plain http to it is no safe place for a browser
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SHOTS = "VIGIL_TEST_SCREENSHOTS"  # folder that keeps pictures of the pages; unset: thrown away

Serve = Callable[[FastAPI], AbstractContextManager[str]]


# A server lets go of what a page still asks for when its test ends; the connection goes with its request.
LEFT_OPEN = "ignore:Exception ignored in. <function BaseConnection.__del__"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take a request that outlives its test for no leak, here alone."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(LEFT_OPEN))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The distribution's browser, headless; each test opens a context of its own."""
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for pictures of the pages."""
    given = os.environ.get(SHOTS)
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def serve() -> Serve:
    """Serve an application on a free port for as long as a context lasts; it gives the address."""
    return served

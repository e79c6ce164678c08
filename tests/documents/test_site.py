"""The documents as a site: all of them, whole without any other host, and none with a link into nothing."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.config import load_config
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tests.documents.pages import ROOT, pages
from tests.documents.site import BESIDE, on_page_markdown
from tests.run import checks

# What only its neighbours in the source want to read.
NOT_IN_SITE = {"service/demonstration/volumes/README.md", "service/web/static/vendor/VENDORED.md"}
LOADING = {"src", "srcset", "data", "poster", "action"}


class Loaded(HTMLParser):
    """Addresses that a browser asks for by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value or "" for name, value in attrs if name in LOADING or (tag == "link" and name == "href")
        ]


(BUILD,) = (check.command for check in checks(with_long=False) if check.name == "documents")


def build(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `./vigil test` does, into a folder of the test's own."""
    command = [*BUILD, "--site-dir", str(folder)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_dead_link_and_a_dead_anchor_end_the_check(tmp_path: Path) -> None:
    for path in ("docs", "mkdocs.yml", "README.md", "tests/documents/site.py", *BESIDE):
        copied = tmp_path / path
        copied.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, copied)
    with (tmp_path / "docs" / "start.md").open("a") as page:
        page.write("[lost](lost.md) and [nowhere](pacs.md#nowhere)\n")

    done = build(tmp_path, tmp_path / "site")

    assert done.returncode != 0
    assert "'lost.md'" in done.stderr
    assert "'#nowhere'" in done.stderr


def test_every_document_is_a_page(site: Path) -> None:
    expected = {"index.md" if page == "README.md" else page.removeprefix("docs/") for page in pages()}

    missing = {page for page in expected - NOT_IN_SITE if not (site / page).with_suffix(".html").exists()}

    # A README of a folder is its index.
    assert {page for page in missing if not (site / page).with_name("index.html").exists()} == set()


def test_nothing_is_asked_of_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        assert page.found
        assert [address for address in page.found if re.match(r"(https?:)?//", address)] == [], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    ("source", "written", "shown"),
    [
        (
            "api.md",
            "[a](../dicom_node/CONFORMANCE.md#2-application-entities)",
            "[a](dicom_node/CONFORMANCE.md#2-application-entities)",
        ),
        ("dicom_node/CONFORMANCE.md", "[a](../docs/api.md)", "[a](../api.md)"),
        ("index.md", "[a](docs/api.md)", "[a](api.md)"),
        ("api.md", "[a](../README.md)", "[a](index.md)"),
        (
            "api.md",
            "[CONFORMANCE.md](../dicom_node/CONFORMANCE.md)",
            "[DICOM conformance statement](dicom_node/CONFORMANCE.md)",
        ),
        ("index.md", "[code](service/study.py)", "code"),
        ("api.md", "[a](lost.md)", "[a](lost.md)"),
        ("api.md", "`[a](../dicom_node/CONFORMANCE.md)`", "`[a](../dicom_node/CONFORMANCE.md)`"),
    ],
)
def test_a_link_from_file_to_file_is_one_from_page_to_page(source: str, written: str, shown: str) -> None:
    config = load_config(str(ROOT / "mkdocs.yml"))
    files = Files(
        [
            File(uri, str(ROOT), config.site_dir, use_directory_urls=False)
            for uri in (*BESIDE, "api.md", "index.md")
        ]
    )
    page = Page(None, File(source, str(ROOT), config.site_dir, use_directory_urls=False), config)

    assert on_page_markdown(written, page=page, config=config, files=files) == shown

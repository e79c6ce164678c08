"""Every link of a document leads to a file that is there, and to a heading of it, as GitHub reads them."""

import posixpath

import pytest

from tests.documents.pages import ROOT, headings, links, pages


def dead(page: str, target: str) -> str | None:
    path, _, anchor = target.partition("#")
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if not (ROOT / reached).exists():
        return f"{target}: no such file"
    if anchor and anchor not in headings(reached):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: str) -> None:
    assert [fault for target in links(page) if (fault := dead(page, target))] == []


def test_a_dead_link_is_found() -> None:
    assert dead("docs/start.md", "pacs.md#orthanc") is None
    assert dead("docs/start.md", "lost.md") == "lost.md: no such file"
    assert dead("docs/start.md", "pacs.md#lost") == "pacs.md#lost: no such heading"

"""A hook of MkDocs: the site has the pages that lie beside the code, and links as the repository has them.

A page keeps the links that lead on GitHub from file to file. What they lead to is a page of the site, or a
file of the source, which the site has not: then the words stay without a link.
"""

import posixpath
import re
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = "docs/"
FRONT = "README.md"
# Beside what they describe; in the site under the same path.
BESIDE = (
    "CHANGELOG.md",
    "SECURITY.md",
    "dicom_node/CONFORMANCE.md",
    "helm/README.md",
    "models/METHODS.md",
    "models/README.md",
    "models/RESULTS.md",
    "models/artefacts/brain-t1-0.1.0/MODEL_CARD.md",
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```|`[^`]*`)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from beside the code; the README is the front page."""
    for path in BESIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / FRONT)))
    return files


@cache
def title_of(path: str) -> str:
    """Return the title of a page: what a reader of the site knows it by, where files have names."""
    first = (ROOT / path).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ").strip()


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - the hook's signature
    """Turn links from file to file into links from page to page."""
    source = page.file.src_uri
    home = FRONT if source == "index.md" else source if source in BESIDE else DOCS + source

    def turned(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or ":" in path:
            return found[0]
        reached = posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
        uri = "index.md" if reached == FRONT else reached.removeprefix(DOCS)
        if files.get_file_from_path(uri) is None:
            if not (ROOT / reached).exists():
                return found[0]  # for the strict build to complain about
            return words
        if words == posixpath.basename(path):
            words = title_of(reached)
        led = posixpath.relpath(uri, posixpath.dirname(source) or ".")
        return f"{mark}[{words}]({led}{'#' if anchor else ''}{anchor})"

    parts = CODE.split(markdown)
    return "".join(part if CODE.fullmatch(part) else LINK.sub(turned, part) for part in parts)

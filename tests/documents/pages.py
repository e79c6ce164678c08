"""The documents as data: their headings, links, code and commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent.parent
# Not ours, or made: environments, builds, caches, the site itself.
PASSED_OVER = re.compile(r"(^|/)(\.[^/]+|build|dist|node_modules|site|vigil-data)/")
SHELL = ("sh", "")  # what names no language might be a command
UNTRIED = re.compile(r"\*Untried here: [^*]+\.\*")
HERE_DOCUMENT = re.compile(r"<<(['\"]?)(\w+)\1.*?\n\2$", re.DOTALL | re.MULTILINE)
DESCRIPTOR = re.compile(r"(?<!\S)\d(?=[<>])|>&\d")  # 2>file, >&2
PROGRAMS = ("vigil", "./vigil")
MODULE = ("python", "-m")


@dataclass(frozen=True, slots=True)
class Block:
    """Fenced code of a page.

    Attributes
    ----------
    page : str
        Path from the top of the repository.
    line : int
        Where it begins, from 1.
    language : str
        As the fence names it.
    text : str
    is_untried : bool
        Whether the line above says so.
    printed : str
        What the page says that it prints: the ``text`` fence that follows at once, or nothing.
    """

    page: str
    line: int
    language: str
    text: str
    is_untried: bool
    printed: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page: in a block, or a mention within a sentence, which may leave arguments out."""

    where: str
    words: tuple[str, ...]
    is_mention: bool

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


@cache
def pages() -> tuple[str, ...]:
    """Every Markdown file of the repository, by its path from the top."""
    found = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.md"))
    return tuple(sorted(path for path in found if not PASSED_OVER.search(path)))


@cache
def tokens(page: str) -> tuple[Token, ...]:
    parser = MarkdownIt("commonmark").enable("table")
    return tuple(parser.parse((ROOT / page).read_text(encoding="utf-8")))


def blocks(page: str) -> list[Block]:
    """Return the fenced code of a page, in its order."""
    found: list[Block] = []
    parsed = tokens(page)
    for number, token in enumerate(parsed):
        if token.type != "fence":
            continue
        above = (
            parsed[number - 2].content if number >= 3 and parsed[number - 1].type == "paragraph_close" else ""
        )
        follows = parsed[number + 1] if number + 1 < len(parsed) else None
        shown = follows is not None and follows.type == "fence" and follows.info == "text"
        found.append(
            Block(
                page=page,
                line=(token.map or [0])[0] + 1,
                language=token.info.strip(),
                text=token.content,
                is_untried=UNTRIED.fullmatch(above.replace("\n", " ")) is not None,
                printed=follows.content if shown and follows is not None else "",
            )
        )
    return found


def shell_blocks(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in SHELL]


def commands_of(block: Block) -> Iterator[Command]:
    """Yield the commands of a shell block, without redirections and assignments."""
    for words in _split(block.text):
        yield Command(block.where, words, is_mention=False)


def mentions(page: str) -> Iterator[Command]:
    """Yield the commands that stand in the sentences and tables of a page."""
    for token in tokens(page):
        line = (token.map or [0])[0] + 1
        for child in token.children or ():
            starts = child.type == "code_inline" and child.content.startswith(
                ("vigil ", "./vigil ", "python -m ")
            )
            if starts:
                for words in _split(re.sub(r"[\[\]]|\.\.\.", " ", child.content)):
                    yield Command(f"{page}:{line}", words, is_mention=True)


def _split(text: str) -> Iterator[tuple[str, ...]]:
    text = DESCRIPTOR.sub("", HERE_DOCUMENT.sub("", text))
    text = re.sub(r"(?m)(^|\s+)#.*$", "", text.replace("\\\n", " "))
    reader = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    reader.whitespace, reader.commenters, reader.whitespace_split = " \t\r", "", True
    words: list[str] = []
    is_file = False
    for word in reader:
        if set(word) <= set("<>"):
            is_file = True
        elif set(word) <= set("();|&\n"):
            yield from _command(words)
            words = []
        elif is_file:
            is_file = False
        else:
            words.append(word)
    yield from _command(words)


def _command(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the words from the program on: what comes before are assignments."""
    while words and re.match(r"[A-Z_a-z]+=", words[0]):
        words = words[1:]
    if words:
        yield tuple(words)


def headings(page: str) -> set[str]:
    """Return the anchors of a page, as GitHub makes them of its headings."""
    parsed = tokens(page)
    names: dict[str, int] = {}
    found = set()
    for opened, inner in pairwise(parsed):
        if opened.type != "heading_open":
            continue
        said = "".join(child.content for child in inner.children or ())
        slug = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
        found.add(f"{slug}-{names[slug]}" if slug in names else slug)
        names[slug] = names.get(slug, 0) + 1
    return found


def links(page: str) -> Iterator[str]:
    """Yield the targets of a page's links and pictures that lead to no other site."""
    for token in tokens(page):
        for child in token.children or ():
            target = str(child.attrs.get("href") or child.attrs.get("src") or "")
            if target and not re.match(r"[a-z]+:", target):
                yield target

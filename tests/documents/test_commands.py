"""No document names a command that is not there, and every command somebody may copy was run by a test.

A shell block (``sh``) is accounted for in one of four ways:

- a walk runs it (`tests/documents/walks.py` names the pages), or runs the same command with these options;
- a test that is named in `ELSEWHERE` runs the command, and holds its words;
- a test of its own follows the whole page (`FOLLOWED`);
- it stands directly under a line ``*Untried here: reason.*``, which readers see.
"""

import re

import pytest

from tests.documents.command_line import fault_of, name_of, options_of
from tests.documents.pages import (
    ROOT,
    SHELL,
    Block,
    Command,
    blocks,
    commands_of,
    mentions,
    pages,
    shell_blocks,
)
from tests.documents.walks import ELSEWHERE, FOLLOWED, WALKED, walked_blocks

LANGUAGES = {*SHELL, "text", "yaml", "json", "js", "lua", "nginx"}
# A model's card holds the commands that made its numbers: they were run for it, and it is hashed.
RECORDS = "models/artefacts/"
each_page = pytest.mark.parametrize("page", pages())


def commands_in(page: str) -> list[Command]:
    return [command for block in shell_blocks(page) for command in commands_of(block)]


def walked() -> list[tuple[tuple[str, ...], set[str]]]:
    """Name and options of every command that a walk runs."""
    return [
        (name_of(command), options_of(command))
        for page in WALKED
        for block in walked_blocks(page)
        for command in commands_of(block)
    ]


def is_run(command: Command, ran: list[tuple[tuple[str, ...], set[str]]]) -> bool:
    name, options = name_of(command), options_of(command)
    if name[0] == "vigil":
        options.discard("--data")  # says where, as VIGIL_DATA does
    if any(name == other and options <= given for other, given in ran):
        return True
    test = ELSEWHERE.get(" ".join(name))
    if test is None:
        return False
    said = (ROOT / test).read_text(encoding="utf-8")
    words = {*(name[1:] if name[0] == "vigil" else name[-1:]), *options}
    return all(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", said) for word in words)


@each_page
def test_every_command_a_document_names_is_there_with_its_options(page: str) -> None:
    named = [*commands_in(page), *mentions(page)]

    assert {str(command): fault for command in named if (fault := fault_of(command))} == {}


@each_page
def test_every_block_of_code_says_its_language(page: str) -> None:
    assert [block.where for block in blocks(page) if block.language not in LANGUAGES] == []


@pytest.mark.parametrize(
    "page", [page for page in pages() if not page.startswith(RECORDS) and page not in FOLLOWED]
)
def test_every_command_to_copy_is_run_by_a_test_or_says_that_it_was_not(page: str) -> None:
    ran = walked()
    tried = [block for block in shell_blocks(page) if not block.is_untried]

    assert [
        str(command) for block in tried for command in commands_of(block) if not is_run(command, ran)
    ] == []


@pytest.mark.parametrize("page", [page for page in pages() if page in FOLLOWED])
def test_a_page_with_a_test_of_its_own_is_read_by_it(page: str) -> None:
    test = (ROOT / FOLLOWED[page]).read_text(encoding="utf-8")

    assert f'"{page.removeprefix("docs/")}"' in test
    assert "```sh" in test


def test_the_table_names_what_documents_name() -> None:
    named = {" ".join(name_of(command)) for page in pages() for command in commands_in(page)}

    assert set(ELSEWHERE) <= named


def block(text: str) -> Block:
    return Block("page.md", 1, "sh", text, is_untried=False)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("vigil studies lost KEY", "there is no 'lost'"),
        ("vigil studies show", "key missing"),
        ("vigil studies show KEY KEY", "2 arguments where 1 are taken"),
        ("vigil studies list --newest", "there is no option --newest"),
        ("vigil studies list --limit", "--limit has no value"),
        ("vigil worker --pool other", "--pool is one of"),
        ("python -m tests.benchmarks.nothing", "no tests.benchmarks.nothing"),
        ("python -m tests.benchmarks.ingest --never 5", "no option --never"),
        ("docker-compose logs --tail=50 nodes", "compose.yaml has no service nodes"),
        ("docker-compose exec api vigil people invite lord", "role is one of"),
        ("docker-compose run --rm --volume=/a:/b node backups /b", "there is no 'backups'"),
        ("TOKEN=$(vigil tokens make board --roles service)", "there is no option --roles"),
        ("cd folder && ./vigil up --port 1 \\\n  --nothing 2  # here", "there is no option --nothing"),
    ],
)
def test_a_command_that_is_not_there_is_found(text: str, fault: str) -> None:
    (found,) = [told for command in commands_of(block(text)) if (told := fault_of(command))]

    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        "vigil studies show KEY --json | grep state > file",
        "VIGIL_SITE=north vigil up --data vigil-data &",
        "./vigil test --long",
        'vigil studies hold KEY --reason "a day; in court"',
        "vigil worker --pool infer 2>>infer.log &\nvigil doctor >doctor.txt 2>&1",
        "cat >peers.yaml <<END\nvigil lost\nEND\nvigil peers list",
    ],
)
def test_a_command_that_is_there_is_not(text: str) -> None:
    assert [told for command in commands_of(block(text)) if (told := fault_of(command))] == []

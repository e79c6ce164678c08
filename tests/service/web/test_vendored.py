import hashlib
import re

from service.web import HERE

FOLDER = HERE / "static" / "vendor"
ROW = re.compile(
    r"^\| `(?P<file>[^`]+)` \|.*, `(?P<licence>[^`]+)` \| `(?P<sha256>[0-9a-f]{64})` \|$", re.MULTILINE
)


def test_every_vendored_file_is_the_one_that_was_published() -> None:
    rows = list(ROW.finditer((FOLDER / "VENDORED.md").read_text(encoding="utf-8")))
    assert {row["sha256"] for row in rows} == {
        hashlib.sha256((FOLDER / row["file"]).read_bytes()).hexdigest() for row in rows
    }
    named = {name for row in rows for name in (row["file"], row["licence"])}
    assert named | {"VENDORED.md"} == {path.name for path in FOLDER.iterdir()}

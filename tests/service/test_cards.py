import shutil
from pathlib import Path

import pytest

from models.artefact import CARD, read_manifest, write_manifest
from models.catalogue import active_artefact
from service.active import ActiveModel
from service.cards import LONGEST, Cards

SHIPPED = active_artefact()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Folder of a site's model: the shipped one under another version, with its own card."""
    folder = tmp_path / "models" / "own"
    shutil.copytree(SHIPPED.path, folder)
    (folder / CARD).write_text("# Own card\n", encoding="utf-8")
    manifest = read_manifest(folder / "manifest.json")
    write_manifest(folder, manifest.model_copy(update={"version": "9.9.9"}))
    return folder


def cards(tmp_path: Path, chosen: Path | None = None) -> Cards:
    return Cards(active=ActiveModel(data=tmp_path, chosen=chosen))


def test_the_shipped_model_has_its_card(tmp_path: Path) -> None:
    text = cards(tmp_path).of(SHIPPED.sha256)

    assert text == (SHIPPED.path / CARD).read_text(encoding="utf-8")


def test_a_score_of_the_model_before_still_has_its_card(tmp_path: Path, own: Path) -> None:
    found = cards(tmp_path, chosen=own)
    chosen = ActiveModel(data=tmp_path, chosen=own).identity().sha256

    assert chosen != SHIPPED.sha256
    assert found.of(chosen) == "# Own card\n"
    assert found.of(SHIPPED.sha256) is not None


@pytest.mark.parametrize("content", [b"# Changed\n", b"\xff\xfe", b"x" * (LONGEST + 1)])
def test_a_card_that_was_changed_is_not_shown(tmp_path: Path, own: Path, content: bytes) -> None:
    chosen = ActiveModel(data=tmp_path, chosen=own).identity().sha256
    (own / CARD).write_bytes(content)

    assert cards(tmp_path, chosen=own).of(chosen) is None


def test_a_model_nobody_has_here_has_no_card(tmp_path: Path) -> None:
    assert cards(tmp_path).of("f" * 64) is None

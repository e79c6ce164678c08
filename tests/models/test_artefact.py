import json
import shutil
from pathlib import Path

import pytest

from models.artefact import CARD, MANIFEST, NORMALS, REQUIRED, Artefact, PictureArtefact, load_artefact
from models.catalogue import active_artefact, list_artefacts
from models.errors import ArtefactError
from tests.picture_models import write_artefact


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(active_artefact().path, tmp_path / "copied"))


def test_shipped_artefact_is_whole_and_small() -> None:
    artefact = active_artefact()

    assert artefact.path.name == f"{artefact.manifest.name}-{artefact.manifest.version}"
    assert sum(file.stat().st_size for file in artefact.path.iterdir()) < 10e6
    assert {file.name for file in artefact.path.iterdir()} == {MANIFEST, *REQUIRED[1]}


@pytest.mark.parametrize("name", REQUIRED[1])
def test_one_changed_byte_is_found_and_named(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)

    with pytest.raises(ArtefactError, match=name) as found:
        Artefact.load(copied)

    assert found.value.path == copied / name


@pytest.mark.parametrize("name", [MANIFEST, *REQUIRED[1]])
def test_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()

    with pytest.raises(ArtefactError, match=name):
        Artefact.load(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("unknown", 1),
        ("files", {}),
        ("files", {"../model.onnx": "0" * 64}),
        ("heads", "not a table"),
    ],
)
def test_manifest_that_is_not_valid_is_named(copied: Path, key: str, value: object) -> None:
    content = json.loads((copied / MANIFEST).read_text())
    content[key] = value
    (copied / MANIFEST).write_text(json.dumps(content))

    with pytest.raises(ArtefactError, match=MANIFEST):
        Artefact.load(copied)


def test_a_manifest_of_a_later_release_is_refused_with_the_remedy(copied: Path) -> None:
    content = json.loads((copied / MANIFEST).read_text()) | {"format": 3}
    (copied / MANIFEST).write_text(json.dumps(content))

    with pytest.raises(ArtefactError, match=r"format 3, .*update Vigil"):
        Artefact.load(copied)


@pytest.mark.parametrize("name", REQUIRED[2])
def test_one_changed_byte_of_a_picture_model_is_found_and_named(tmp_path: Path, name: str) -> None:
    folder = write_artefact(tmp_path / "grey")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(ArtefactError, match=name) as found:
        load_artefact(folder)

    assert found.value.path == folder / name


def test_picture_model_needs_no_statistics_beside_its_graph(tmp_path: Path) -> None:
    found = load_artefact(write_artefact(tmp_path / "grey"))

    assert isinstance(found, PictureArtefact)
    assert NORMALS not in found.manifest.files
    assert set(found.manifest.files) == set(REQUIRED[2])


def test_picture_model_is_no_volume_model(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="of pictures"):
        Artefact.load(write_artefact(tmp_path / "grey"))


def test_field_of_a_manifest_that_is_wrong_is_named(tmp_path: Path) -> None:
    folder = write_artefact(tmp_path / "grey")
    content = json.loads((folder / MANIFEST).read_text())
    content["input"]["size"] = [0, 16]
    (folder / MANIFEST).write_text(json.dumps(content))

    with pytest.raises(ArtefactError, match=r"input\.size\.0"):
        load_artefact(folder)


def test_path_in_the_file_list_cannot_leave_the_folder(copied: Path) -> None:
    content = json.loads((copied / MANIFEST).read_text())
    content["files"]["../outside"] = "0" * 64
    (copied / MANIFEST).write_text(json.dumps(content))

    with pytest.raises(ArtefactError, match="plain file name"):
        Artefact.load(copied)


def test_identity_changes_with_the_model_but_not_with_its_card(copied: Path) -> None:
    before = Artefact.load(copied).sha256
    content = json.loads((copied / MANIFEST).read_text())

    content["files"][CARD] = "0" * 64
    (copied / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=CARD):
        Artefact.load(copied)

    content["files"][CARD] = json.loads((active_artefact().path / MANIFEST).read_text())["files"][CARD]
    content["top_mm3"] += 1
    (copied / MANIFEST).write_text(json.dumps(content))
    assert Artefact.load(copied).sha256 != before


def test_catalogue_takes_an_artefact_or_a_folder_with_one(copied: Path) -> None:
    assert active_artefact(copied).path == copied
    assert active_artefact(copied.parent).path == copied
    assert list_artefacts(copied.parent) == (copied,)


def test_catalogue_refuses_none_and_several(copied: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArtefactError, match="no model here"):
        active_artefact(empty)

    shutil.copytree(copied, tmp_path / "second")
    with pytest.raises(ArtefactError, match="several models"):
        active_artefact(tmp_path)

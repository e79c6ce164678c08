from pathlib import Path

import pytest

from models.artefact import NETWORK, PictureArtefact
from models.catalogue import active_artefact
from models.errors import ArtefactError
from models.verification import verify_artefact
from tests.picture_models import write_artefact


def test_shipped_model_and_a_sound_picture_model_pass(tmp_path: Path) -> None:
    assert verify_artefact(active_artefact().path).sha256 == active_artefact().sha256
    assert isinstance(verify_artefact(write_artefact(tmp_path / "grey")), PictureArtefact)


def test_changed_byte_fails_with_the_name_of_the_file(tmp_path: Path) -> None:
    folder = write_artefact(tmp_path / "grey")
    with (folder / NETWORK).open("ab") as stream:
        stream.write(b"\0")

    with pytest.raises(ArtefactError, match=NETWORK):
        verify_artefact(folder)


def test_network_that_draws_fails_although_its_bytes_are_those_released(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="draws random numbers"):
        verify_artefact(write_artefact(tmp_path / "drawing", extra=("RandomNormal",)))


def test_network_whose_answer_depends_on_the_batch_fails(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="image_score by what else is in the batch"):
        verify_artefact(write_artefact(tmp_path / "mixing", per_batch=True))


def test_network_without_numbers_fails(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no number for"):
        verify_artefact(write_artefact(tmp_path / "infinite", grey=float("inf")))

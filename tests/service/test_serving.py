import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from models.artefact import MANIFEST, NETWORK, Artefact, PictureArtefact, load_artefact
from models.batcher import Batcher
from models.errors import ArtefactError
from models.predictor import load_predictor
from models.volume import Volume
from service.active import POINTER, ActiveModel, activate
from service.cli import app
from service.errors import SettingsError
from service.serving import Loaded, Serving
from service.store import Store, audit
from service.store.tables import AuditRow
from tests.picture_models import write_artefact

runner = CliRunner()


def load(artefact: Artefact | PictureArtefact) -> Loaded:
    predictor = load_predictor(artefact, providers=())
    return Loaded(predictor, Batcher(predictor.runner, predictor.examples(), wait_s=0))


class Site:
    """Two models, the first in service."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.first = load_artefact(write_artefact(folder / "first", grey=0.5))
        self.second = load_artefact(write_artefact(folder / "second", grey=0.25))
        activate(self.data, self.first)
        self.active = ActiveModel(data=self.data)
        self.told: list[bool] = []
        self.serving = Serving(self.active, load, told=self.told.append)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    yield site  # type: ignore[misc]
    site.serving.close()


def volume() -> Volume:
    voxels = np.random.default_rng(0).random((3, 16, 16), dtype=np.float32)
    return Volume(voxels=voxels, spacing_mm=(1, 1, 1), affine=np.eye(4))


def test_a_study_in_hand_ends_with_the_model_it_began_with_and_the_next_has_the_new(site: Site) -> None:
    with site.serving.in_service(10) as old:
        before = old.predict(volume())
        activate(site.data, site.second)
        site.serving.look()
        with site.serving.in_service(10) as new:
            after = new.predict(volume())
        still = old.predict(volume())

    assert before.model.sha256 == still.model.sha256 == site.first.sha256
    assert before.study_score == still.study_score != after.study_score
    assert (after.model.sha256, site.serving.identity.sha256) == (site.second.sha256, site.second.sha256)
    assert site.told == [True]


def test_the_thread_of_a_model_that_left_ends_with_its_last_study(site: Site) -> None:
    def batchers() -> int:
        return sum(thread.name == "batcher" for thread in threading.enumerate())

    before = batchers()
    with site.serving.in_service(10):
        activate(site.data, site.second)
        site.serving.look()
        assert batchers() == before + 1
    assert batchers() == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / NETWORK).write_bytes(b"not a network"),
        lambda folder: (folder / MANIFEST).unlink(),
    ],
)
def test_a_broken_model_is_refused_and_the_one_before_goes_on(
    site: Site, spoil: Callable[[Path], object]
) -> None:
    activate(site.data, site.second)
    spoil(site.second.path)

    site.serving.look()
    site.serving.look()

    assert site.told == [False]
    with site.serving.in_service(10) as predictor:
        assert predictor.predict(volume()).model.sha256 == site.first.sha256


def test_a_model_that_fails_as_nobody_foresaw_is_refused_and_the_next_is_followed(site: Site) -> None:
    def load_unless_second(artefact: Artefact | PictureArtefact) -> Loaded:
        if artefact.sha256 == site.second.sha256:
            raise KeyError("unforeseen")
        return load(artefact)

    serving = Serving(site.active, load_unless_second, told=site.told.append)
    activate(site.data, site.second)
    serving.look()

    assert (serving.identity.sha256, site.told) == (site.first.sha256, [False])
    serving.close()


def test_a_model_that_was_changed_after_it_was_activated_is_not_loaded(site: Site) -> None:
    manifest = site.first.path / MANIFEST
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"title": "another"}))

    with pytest.raises(ArtefactError, match="not what was chosen"):
        site.active.artefact()


def test_who_asks_for_the_identity_is_told_of_the_change_and_keeps_the_last_that_can_be_read(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    site.serving.close()
    assert site.active.identity().sha256 == site.first.sha256
    activate(site.data, site.second)
    assert site.active.identity().sha256 == site.second.sha256
    (site.second.path / MANIFEST).unlink()

    assert site.active.identity().sha256 == site.second.sha256


def test_a_damaged_choice_is_named_with_its_remedy(site: Site) -> None:
    (site.data / POINTER).write_text("{")

    with pytest.raises(SettingsError, match="vigil models activate"):
        site.active.artefact()


@pytest.mark.postgres
def test_activating_is_audited_and_a_broken_artefact_activates_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    data, good = tmp_path / "data", write_artefact(tmp_path / "good")
    broken = write_artefact(tmp_path / "broken", grey=0.1)
    (broken / NETWORK).write_bytes(b"")

    refused = runner.invoke(app, ["models", "activate", str(broken), "--data", str(data)])
    assert isinstance(refused.exception, ArtefactError)
    assert not (data / POINTER).exists()

    done = runner.invoke(app, ["models", "activate", str(good), "--data", str(data)])

    assert done.exit_code == 0, done.output
    assert ActiveModel(data=data).identity().sha256 == load_artefact(good).sha256
    with store.transaction() as session:
        (row,) = session.scalars(select(AuditRow)).all()
        assert (row.action, row.detail["model_hash"]) == ("model.activated", load_artefact(good).sha256)
        audit.verify(session)

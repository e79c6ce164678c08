import json
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from models.artefact import NETWORK, load_artefact
from models.errors import ArtefactError
from service import engine
from service.active import MOST_BEFORE, ActiveModel
from service.changing import FixedModelError, NoShadowError, NothingBeforeError, ServesAlreadyError
from service.cli import app
from service.engine import Pool
from service.errors import TriageError
from service.shadowed import POINTER, shadow_of
from service.store import Store, audit
from service.store.tables import AuditRow, ShadowScoreRow
from service.study import State
from tests.picture_models import write_artefact
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres


class Site:
    """The command line on one data folder, with some artefacts at hand."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.data = store, folder / "data"
        self.models = {
            name: load_artefact(write_artefact(folder / name, grey=grey))
            for name, grey in (("first", 0.5), ("second", 0.25))
        }

    def vigil(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, ["models", *arguments, "--data", str(self.data)])
        if done.exception is not None:
            raise done.exception
        return done.output

    def serving(self) -> str:
        return ActiveModel(data=self.data).identity().sha256

    def actions(self) -> list[str]:
        with self.store.transaction() as session:
            audit.verify(session)
            return [row.action for row in session.scalars(select(AuditRow).order_by(AuditRow.number))]


@pytest.fixture
def site(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    site = Site(store, tmp_path)
    site.vigil("activate", str(tmp_path / "first"))
    return site


def test_a_shadow_is_promoted_and_rolled_back_by_one_command_each_and_all_is_audited(site: Site) -> None:
    first, second = site.models["first"], site.models["second"]

    site.vigil("shadow", str(second.path))
    assert (site.serving(), shadow_of(site.data).sha256) == (first.sha256, second.sha256)  # type: ignore[union-attr]
    said = site.vigil("promote")
    assert (site.serving(), shadow_of(site.data)) == (second.sha256, None)
    assert "its own calibration" in said
    site.vigil("rollback")
    assert site.serving() == first.sha256
    assert site.actions() == ["model.activated", "model.shadowed", "model.promoted", "model.rolled_back"]
    with site.store.transaction() as session:
        last = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).one()
    assert (last.detail["model_hash"], last.detail["before"]) == (first.sha256, second.sha256)


def test_the_comparison_names_both_models_and_has_no_figure_without_studies(site: Site) -> None:
    first, second = site.models["first"], site.models["second"]
    with pytest.raises(TriageError, match="No model watches"):
        site.vigil("compare")

    site.vigil("shadow", str(second.path))
    told = json.loads(site.vigil("compare", "--json"))

    assert (told["served"], told["shadow"]) == (first.sha256, second.sha256)
    assert (told["studies"], told["spearman"]["value"]) == (0, None)


def test_the_way_back_leads_over_the_shipped_model_to_its_end(site: Site) -> None:
    site.vigil("rollback")
    shipped = site.serving()
    assert shipped not in {model.sha256 for model in site.models.values()}
    with pytest.raises(NothingBeforeError, match="vigil models activate"):
        site.vigil("rollback")
    assert site.serving() == shipped


def test_the_way_back_is_bounded_and_the_same_model_twice_is_no_step(site: Site) -> None:
    for number in range(MOST_BEFORE + 2):
        for _ in range(2):
            site.vigil("activate", str(site.models["second" if number % 2 == 0 else "first"].path))
    assert len(ActiveModel(data=site.data).remembered()) == MOST_BEFORE
    site.vigil("rollback")
    assert len(ActiveModel(data=site.data).remembered()) == MOST_BEFORE - 1


def test_what_cannot_serve_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = site.models["first"], site.models["second"]
    with pytest.raises(NoShadowError):
        site.vigil("promote")
    with pytest.raises(ServesAlreadyError):
        site.vigil("shadow", str(first.path))
    site.vigil("shadow", str(second.path))
    (second.path / NETWORK).write_bytes(b"")
    for command in (("promote",), ("shadow", str(second.path)), ("activate", str(second.path))):
        with pytest.raises(ArtefactError):
            site.vigil(*command)
    monkeypatch.setenv("VIGIL_MODEL", str(first.path))
    with pytest.raises(FixedModelError, match="VIGIL_MODEL"):
        site.vigil("rollback")
    assert site.serving() == first.sha256
    assert site.actions() == ["model.activated", "model.shadowed"]


def test_a_shadow_catches_up_with_what_was_scored_once(site: Site) -> None:
    with site.store.transaction() as session:
        plant(
            session,
            *(Seed(name=name) for name in "abc"),
            Seed(name="declined", state=State.NOT_ASSESSABLE),
            Seed(name="broken", state=State.FAILED),
            Seed(name="waiting", state=State.QUEUED),
        )
    second = str(site.models["second"].path)
    assert "3 studies" in site.vigil("shadow", second, "--catch-up", "3")
    since = shadow_of(site.data).since  # type: ignore[union-attr]
    assert "1 studies" in site.vigil("shadow", second, "--catch-up", "3")
    assert shadow_of(site.data).since == since  # type: ignore[union-attr]
    with site.store.transaction() as session:
        rows = session.scalars(select(ShadowScoreRow)).all()
        assert [row.state for row in rows] == [State.QUEUED] * 4
        engine.enqueue(session, Pool.SHADOW, rows[0].id, priority=0)

    assert "no more" in site.vigil("shadow", "--none")
    with site.store.transaction() as session:
        assert session.scalars(select(ShadowScoreRow)).all() == []
        assert engine.depth(session)[Pool.SHADOW].waiting == 0
    assert not (site.data / POINTER).exists()
    assert site.actions()[-1] == "model.shadow_ended"

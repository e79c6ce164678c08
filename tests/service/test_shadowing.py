from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from models.artefact import load_artefact
from models.documents import SiteCalibration
from models.predictor import load_predictor
from service import engine
from service.engine import Pool
from service.provision import Provision
from service.settings import Settings
from service.shadowed import clear_shadow, set_shadow, shadow_of
from service.shadowing import ATTEMPTS, ATTEMPTS_USED_UP, Shadowing
from service.shares import Shares
from service.store import Store, shadows, studies
from service.store.tables import Base, ShadowScoreRow, StudyRow
from service.study import Priority, State
from tests.picture_models import write_artefact
from tests.service.test_studies import arrival
from tests.viewed import Pointer, score

pytestmark = pytest.mark.postgres

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _unrendered_log() -> Iterator[None]:
    """Without our configuration structlog prints every local variable of a traceback, which takes seconds."""
    with capture_logs():
        yield


class Site:
    """One study that the model in service scored, and a shadow beside it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        settings = Settings(data=folder / "data")
        self.key = score(store, settings)
        artefact = load_artefact(write_artefact(folder / "shadow"))
        set_shadow(settings.data, artefact, since=LONG_AGO)
        chosen = shadow_of(settings.data)
        assert chosen is not None
        self.changed: list[bool] = []
        self.shadowing = Shadowing(
            store=store,
            provision=Provision(spool_folder=settings.spool_folder),
            data=settings.data,
            chosen=chosen,
            predictor=load_predictor(artefact, providers=()),
            calibrated=SiteCalibration,
            max_voxels=1 << 24,
            stalled_s=30.0,
            memory=Shares(1 << 30),
            scratch_folder=settings.scratch_folder,
            on_change=lambda: self.changed.append(True),
        )

    def rows(self) -> list[ShadowScoreRow]:
        with self.store.transaction() as session:
            return list(session.scalars(select(ShadowScoreRow).order_by(ShadowScoreRow.id)))

    def waiting(self) -> int:
        with self.store.transaction() as session:
            return engine.depth(session)[Pool.SHADOW].waiting

    def counts(self) -> dict[str, int]:
        """Rows of every table but the shadow's own."""
        with self.store.transaction() as session:
            return {
                table.name: session.scalar(select(func.count()).select_from(table)) or 0
                for table in Base.metadata.sorted_tables
                if table.name != "shadow_score"
            }


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    return Site(store, tmp_path)


def test_what_has_ended_is_looked_at_once_and_nothing_else_comes_of_it(site: Site) -> None:
    before = site.counts()
    with site.store.transaction() as session:
        study = session.scalars(select(StudyRow)).one()
        shown = {column.name: getattr(study, column.name) for column in StudyRow.__table__.columns}

    site.shadowing.follow()
    site.shadowing.follow()
    (queued,) = site.rows()
    assert (queued.state, site.waiting()) == (State.QUEUED, 1)
    site.shadowing.run(queued.id)
    site.shadowing.run(queued.id)
    site.shadowing.follow()

    (row,) = site.rows()
    assert (row.state, row.attempts, row.model_hash) == (State.SCORED, 1, site.shadowing.chosen.sha256)
    assert row.p_value is not None
    assert row.study_score is not None
    assert '"modality":"MR"' in row.group_key
    assert set(row.seconds) == {"fetch", "read", "score"}
    assert site.counts() == before  # no result, delivery, message, job, notice or audit row
    with site.store.transaction() as session:
        study = session.scalars(select(StudyRow)).one()
        assert shown == {column.name: getattr(study, column.name) for column in StudyRow.__table__.columns}
        (pair,) = shadows.pairs(session, Pointer().identity.sha256, row.model_hash)
    assert (pair.key, pair.served.p_value, pair.shadow.p_value) == (site.key, 1 / 7, row.p_value)


def test_a_study_that_waits_for_the_model_in_service_goes_first(site: Site) -> None:
    site.shadowing.follow()
    (row,) = site.rows()
    with site.store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 4711, priority=Priority.SCREENING)
    site.shadowing.run(row.id)
    (row,) = site.rows()
    assert (row.state, row.attempts, site.waiting()) == (State.QUEUED, 0, 2)


def test_only_studies_that_ended_since_it_watches_are_wanted(site: Site) -> None:
    late = datetime.now(UTC) + timedelta(hours=1)
    with site.store.transaction() as session:
        assert shadows.want(session, "0" * 64, since=late) == 0
        assert shadows.want(session, "0" * 64, since=LONG_AGO) == 1


def test_a_shadow_that_fails_is_given_up_and_harms_no_study(site: Site) -> None:
    broken = replace(site.shadowing, predictor=None)  # type: ignore[arg-type]
    broken.follow()
    (row,) = site.rows()
    for _ in range(ATTEMPTS):
        with pytest.raises(AttributeError) as failure:
            broken.run(row.id)
        broken.failed(row.id, failure.value)
    (row,) = site.rows()
    assert (row.state, row.reason, row.attempts) == (State.FAILED, ATTEMPTS_USED_UP, ATTEMPTS)
    with site.store.transaction() as session:
        assert session.scalars(select(StudyRow.state)).one() is State.SCORED


def test_one_that_ends_its_process_is_given_up_too(site: Site) -> None:
    site.shadowing.follow()
    (row,) = site.rows()
    with site.store.transaction() as session:
        for _ in range(ATTEMPTS):
            assert shadows.begin(session, row.id, row.model_hash) is not None
    site.shadowing.run(row.id)
    (row,) = site.rows()
    assert (row.state, row.reason) == (State.FAILED, ATTEMPTS_USED_UP)


def test_a_newer_revision_makes_the_old_one_pointless(site: Site) -> None:
    site.shadowing.follow()
    (row,) = site.rows()
    with site.store.transaction() as session:
        studies.register(session, site.key, [arrival("late")])
        assert studies.complete(session, site.key, completed_by="quiet_period", now=datetime.now(UTC))
    site.shadowing.run(row.id)
    assert site.rows() == []


def test_another_choice_ends_the_process(site: Site) -> None:
    (site.shadowing.data / "shadow.json").write_text("{")
    site.shadowing.follow()
    assert site.changed == []  # damaged: the one before goes on
    clear_shadow(site.shadowing.data)
    site.shadowing.follow()
    assert site.changed == [True]

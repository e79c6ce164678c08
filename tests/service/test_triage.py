from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dicom_node.spool import Spool
from models.artefact import Manifest
from models.catalogue import active_artefact
from models.errors import DeviceMemoryError, ModelError, NoNumberError, ServerAwayError
from models.predictor import Predictor
from models.scores import ModelIdentity, Scores
from models.volume import Volume
from service import engine
from service.engine import Pool
from service.errors import InstancesMissingError
from service.provision import Provision
from service.shares import Shares
from service.store import Store, audit, jobs, revival, studies
from service.store.jobs import Outcome
from service.store.objects import ResultFolder
from service.store.tables import AuditRow, DeliveryRow, ResultRow, ScoreRow, StudyRow
from service.study import State
from service.triage import ATTEMPTS_USED_UP, DEVICE_MEMORY, NO_NUMBER, Triage
from service.why import REASONS
from tests.fakes import FixedCalibration, FixedModel
from tests.phantoms import Phantom, write
from tests.service.test_studies import NOON, arrival_of

pytestmark = pytest.mark.postgres

SECRET = b"s" * 32


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(active_artefact())


@dataclass
class BrokenPredictor:
    """The shipped model as it introduces itself, which fails on every volume."""

    shipped: Predictor
    error: Exception = field(default_factory=lambda: RuntimeError("broken"))
    asked: list[Volume] = field(default_factory=list)

    @property
    def identity(self) -> ModelIdentity:
        return self.shipped.identity

    @property
    def manifest(self) -> Manifest:
        return self.shipped.manifest

    def predict(self, volume: Volume) -> Scores:
        self.asked.append(volume)
        raise self.error


@pytest.fixture(autouse=True)
def _unrendered_log() -> Iterator[None]:
    """Without our configuration structlog prints every local variable of a traceback, which takes seconds."""
    with capture_logs():
        yield


class Site:
    """One spooled study, and the triage that judges it."""

    def __init__(self, store: Store, folder: Path, predictor: Predictor) -> None:
        self.store, self.folder, self.predictor = store, folder, predictor
        self.places = Shares(3)
        self.spool = Spool(folder / "spool", SECRET, free_mark_bytes=0)
        self.triage = self.with_model(predictor)
        for dataset in Phantom().datasets():
            (path,) = write(folder / "sent", [dataset])
            stored = self.spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()])
        self.key = stored.study_key
        arrivals = [arrival_of(file) for file in self.spool.instances(self.key)]
        with store.transaction() as session:
            studies.register(session, self.key, arrivals)
        self.score_id = self.queue()

    def with_model(self, predictor: Predictor) -> Triage:
        return Triage(
            store=self.store,
            provision=Provision(spool_folder=self.folder / "spool"),
            objects=ResultFolder(self.folder / "results"),
            models=FixedModel(predictor),
            in_force=FixedCalibration().in_force,
            destinations=lambda _: ("pacs",),
            max_voxels=1 << 24,
            attempts=3,
            places=self.places,
            memory=Shares(1 << 30),
            scratch_folder=self.folder / "scratch",
        )

    def queue(self, *, model_hash: str | None = None) -> int:
        with self.store.transaction() as session:
            revision = studies.complete(session, self.key, completed_by="quiet_period", now=NOON)
            assert revision is not None
            score_id = jobs.queue(
                session,
                revision.id,
                model_hash=model_hash or self.predictor.identity.sha256,
                config_digest="c" * 64,
                run_at=NOON,
            )
            assert score_id is not None
            return score_id

    def attempt(self, triage: Triage) -> None:
        """One attempt, as the worker makes it."""
        try:
            triage.run(self.score_id)
        except (RuntimeError, ModelError) as error:
            triage.failed(self.score_id, error)

    def study(self) -> StudyRow:
        with self.store.transaction() as session:
            return session.scalars(select(StudyRow)).one()


@pytest.fixture
def site(store: Store, tmp_path: Path, predictor: Predictor) -> Site:
    return Site(store, tmp_path, predictor)


def test_a_study_the_model_may_not_judge_ends_with_its_reason_and_a_report(site: Site) -> None:
    site.triage.run(site.score_id)

    study = site.study()
    assert study.state is State.NOT_ASSESSABLE
    assert study.reason
    with site.store.transaction() as session:
        (score,) = session.scalars(select(ScoreRow)).all()
        (result,) = session.scalars(select(ResultRow)).all()
        assert (score.p_value, score.study_score) == (None, None)
        assert score.model_name == site.predictor.identity.name
        assert (result.kind, (site.folder / "results" / result.path).stat().st_size) == ("sr", result.bytes)
        assert len(session.scalars(select(DeliveryRow)).all()) == 1
        assert engine.depth(session)[Pool.DELIVER].waiting == 1
        assert session.scalars(select(AuditRow.action)).all() == ["study.not_assessable"]
        audit.verify(session)


@pytest.mark.parametrize("damage", [b"", b"\xff"])
def test_a_file_that_the_disk_damaged_after_its_receipt_is_not_scored(site: Site, damage: bytes) -> None:
    """Cut short, or one byte of its pixels changed: the picture would decode all the same."""
    path = site.spool.instances(site.key)[2].path
    path.write_bytes(path.read_bytes()[:-1] + damage)

    with pytest.raises(InstancesMissingError, match="sent again"):
        site.triage.run(site.score_id)


def test_a_second_run_changes_nothing(site: Site) -> None:
    site.triage.run(site.score_id)
    site.triage.run(site.score_id)

    with site.store.transaction() as session:
        assert len(session.scalars(select(ResultRow)).all()) == 1
        assert len(session.scalars(select(AuditRow)).all()) == 1


def test_a_model_that_fails_is_tried_again_and_then_left_to_a_person(site: Site) -> None:
    broken = BrokenPredictor(site.predictor)
    triage = site.with_model(broken)  # type: ignore[arg-type] - a stand-in

    site.attempt(triage)
    first = site.study().state
    site.attempt(triage)
    site.attempt(triage)

    study = site.study()
    assert first is State.QUEUED
    assert (study.state, study.reason, study.detail) == (
        State.FAILED,
        ATTEMPTS_USED_UP,
        "last error: RuntimeError",
    )
    assert len(broken.asked) == 3
    with site.store.transaction() as session:
        assert engine.depth(session)[Pool.INFER].waiting == 2  # one for each attempt that was to follow


def test_a_study_that_takes_every_worker_down_is_not_tried_for_ever(site: Site) -> None:
    for _ in range(3):  # killed in the middle, three times
        with site.store.transaction() as session:
            jobs.begin(session, site.score_id)

    site.triage.run(site.score_id)

    assert (site.study().state, site.study().reason) == (State.FAILED, ATTEMPTS_USED_UP)


@pytest.mark.parametrize(
    ("error", "code"),
    [(DeviceMemoryError("none left"), DEVICE_MEMORY), (NoNumberError("no number"), NO_NUMBER)],
)
def test_a_study_fails_with_the_reason_that_says_what_to_do(site: Site, error: ModelError, code: str) -> None:
    triage = site.with_model(BrokenPredictor(site.predictor, error))  # type: ignore[arg-type] - a stand-in

    for _ in range(3):
        site.attempt(triage)

    assert (site.study().state, site.study().reason) == (State.FAILED, code)
    assert code in REASONS


def test_an_inference_server_that_is_away_costs_no_attempt(site: Site) -> None:
    triage = site.with_model(BrokenPredictor(site.predictor, ServerAwayError("away")))  # type: ignore[arg-type] - a stand-in

    for _ in range(5):
        site.attempt(triage)

    with site.store.transaction() as session:
        assert session.scalars(select(ScoreRow.attempts)).one() == 0
        assert engine.depth(session)[Pool.INFER].waiting == 5
    assert site.study().state is State.QUEUED


def test_a_study_whose_last_attempt_ended_with_its_process_runs_alone(site: Site) -> None:
    with site.store.transaction() as session:
        jobs.begin(session, site.score_id)  # and the process is gone
    with ThreadPoolExecutor() as threads, site.places.take(1, 10):
        attempt = threads.submit(site.triage.run, site.score_id)
        with suppress(TimeoutError):
            attempt.result(timeout=0.5)
        waits = not attempt.done()
        with site.store.transaction() as session:
            begun = session.scalars(select(ScoreRow.attempts)).one()

    assert (waits, begun) == (True, 1)
    assert attempt.result(timeout=30) is None
    assert site.study().state is State.NOT_ASSESSABLE


def test_a_study_whose_last_attempt_failed_in_order_runs_beside_others(site: Site) -> None:
    site.attempt(site.with_model(BrokenPredictor(site.predictor)))  # type: ignore[arg-type] - a stand-in

    with site.places.take(1, 10):
        site.triage.run(site.score_id)

    assert site.study().state is State.NOT_ASSESSABLE


@dataclass
class EndlessPredictor(BrokenPredictor):
    """The process ends while it scores."""

    during: Callable[[], None] = lambda: None

    def predict(self, volume: Volume) -> Scores:
        self.during()
        return super().predict(volume)


def test_an_attempt_that_a_stopped_worker_abandons_is_taken_back(site: Site) -> None:
    standings = []

    def stop() -> None:
        triage.abandon()
        with site.store.transaction() as session:
            standings.append(
                (jobs.standing(session, site.score_id), session.scalars(select(ScoreRow.attempts)).one())
            )

    triage = site.with_model(EndlessPredictor(site.predictor, during=stop))  # type: ignore[arg-type] - a stand-in
    with suppress(RuntimeError):
        triage.run(site.score_id)

    assert standings == [(jobs.Standing(priority=10, was_cut_off=False), 0)]


def test_what_a_worker_has_not_begun_it_does_not_take_back(site: Site) -> None:
    with site.store.transaction() as session:
        jobs.begin(session, site.score_id)  # by a worker that died

    site.triage.abandon()

    with site.store.transaction() as session:
        assert jobs.standing(session, site.score_id) == jobs.Standing(priority=10, was_cut_off=True)


def _relabel(site: Site, model_hash: str) -> None:
    """As if the job had been made for another model."""
    with site.store.transaction() as session:
        score = session.get(ScoreRow, site.score_id)
        assert score is not None
        score.model_hash = model_hash


def test_a_job_for_another_model_is_done_with_this_one(site: Site) -> None:
    _relabel(site, "older")

    site.triage.run(site.score_id)

    with site.store.transaction() as session:
        (score,) = session.scalars(select(ScoreRow)).all()
        actions = session.scalars(select(AuditRow.action).order_by(AuditRow.number)).all()
    assert score.model_hash == site.predictor.identity.sha256
    assert site.study().state is State.NOT_ASSESSABLE
    assert actions == ["study.queued", "study.not_assessable"]


def test_a_model_that_comes_back_finds_its_job_again(site: Site) -> None:
    """Upgrade and rollback: the job went from this model to another and comes back."""
    with site.store.transaction() as session:
        job = jobs.begin(session, site.score_id)
        assert job is not None
        assert jobs.rename(session, job, model_hash="newer", config_digest="c" * 64)

    site.triage.run(site.score_id)

    assert site.study().state is State.NOT_ASSESSABLE


def test_a_model_that_comes_back_to_what_it_has_judged_shows_its_answer_again(site: Site) -> None:
    """Judged, then queued for a newer model by a person, then the newer model is taken back."""
    site.triage.run(site.score_id)
    with site.store.transaction() as session:
        revision = session.scalars(select(ScoreRow)).one().revision
        site_key = revision.study.key
        opened = revival.reopen(session, site_key, model_hash="newer", config_digest="c" * 64)
        assert opened is not None
        newer = jobs.queue(
            session, revision.id, model_hash="newer", config_digest="c" * 64, run_at=datetime.now(UTC)
        )
        assert newer is not None

    site.triage.run(newer)

    study = site.study()
    assert (study.state, study.score_id) == (State.NOT_ASSESSABLE, site.score_id)


def test_a_study_that_fails_on_workers_of_two_models_is_not_tried_for_ever(site: Site) -> None:
    triage = site.with_model(BrokenPredictor(site.predictor))  # type: ignore[arg-type] - a stand-in

    for _ in range(3):
        _relabel(site, "another")  # by the worker of the other model
        site.attempt(triage)

    assert (site.study().state, site.study().reason) == (State.FAILED, ATTEMPTS_USED_UP)


def test_numbers_of_a_model_that_lost_the_job_are_not_stored(site: Site) -> None:
    with site.store.transaction() as session:
        job = jobs.begin(session, site.score_id)
        assert job is not None
    _relabel(site, "newer")

    site.triage._record(job, Outcome(state=State.SCORED, values={"p_value": 0.5, "study_score": 1.0}))

    assert site.study().state is State.QUEUED


def test_a_database_that_went_away_is_not_the_studys_fault(site: Site) -> None:
    away = OperationalError("SELECT 1", None, Exception("gone"))
    for _ in range(5):
        with site.store.transaction() as session:
            jobs.begin(session, site.score_id)
        site.triage.failed(site.score_id, away)

    site.triage.run(site.score_id)

    assert site.study().state is State.NOT_ASSESSABLE


def test_the_same_job_makes_the_same_bytes(site: Site) -> None:
    with site.store.transaction() as session:
        job = jobs.begin(session, site.score_id)
        in_force = site.triage.in_force(session, job.model_hash) if job else None
    assert job is not None
    assert in_force is not None

    once, again = (site.triage._judge(job, site.predictor, in_force) for _ in range(2))

    assert [result.sha256 for result in once.results] == [result.sha256 for result in again.results]
    assert once.results

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import engine
from service.engine import Pool
from service.errors import UnknownStudyError
from service.reaper import Reaper
from service.replay import replay
from service.store import Store, deliveries, jobs, studies
from service.store.jobs import Outcome
from service.store.results import StoredResult
from service.store.tables import DeliveryRow, ResultRow, ScoreRow, StudyRow
from service.study import DeliveryStatus, State
from tests.ordered import ordered
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = pytest.mark.postgres

SCORED = Outcome(
    state=State.SCORED,
    values={"p_value": 0.5, "study_score": 1.0},
    results=(
        StoredResult(
            kind="sr", sop_class_uid="1.2", sop_instance_uid="2.25.1", path="x/1.dcm", sha256="0", bytes=1
        ),
    ),
)


@pytest.fixture
def score_id(store: Store) -> int:
    """A queued score of a study with one instance; no engine job yet."""
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
    return _queue(store)


def _queue(store: Store, *, model_hash: str = "m") -> int:
    with store.transaction() as session:
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash=model_hash, config_digest="c", run_at=NOON)
        assert score_id is not None
        return score_id


def test_one_revision_one_model_and_one_configuration_make_one_score(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        again = jobs.queue(session, job.revision_id, model_hash="m", config_digest="c", run_at=NOON)
        other = jobs.queue(session, job.revision_id, model_hash="n", config_digest="c", run_at=NOON)

    assert again is None
    assert other not in {None, score_id}


def test_a_job_knows_its_revision_and_keeps_its_run_time(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        first = jobs.begin(session, score_id)
    with store.transaction() as session:
        second = jobs.begin(session, score_id)

    assert first is not None
    assert second is not None
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.run_at == second.run_at == NOON
    assert first.file_names == ("a.dcm",)


def test_an_instance_that_came_after_the_revision_is_not_part_of_its_job(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("b")])
        job = jobs.begin(session, score_id)

    assert job is not None
    assert job.file_names == ("a.dcm",)


def test_the_second_worker_to_finish_stores_nothing(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        first = jobs.record(session, job, SCORED, lambda _: ["pacs"])
    with store.transaction() as session:
        second = jobs.record(session, job, SCORED, lambda _: ["pacs"])

    with store.transaction() as session:
        results = session.scalar(select(func.count()).select_from(ResultRow))
        deliveries = session.scalar(select(func.count()).select_from(DeliveryRow))
        state = session.scalars(select(StudyRow.state)).one()
    assert first is not None
    assert second is None
    assert (results, deliveries, state) == (1, 1, State.SCORED)


def test_the_score_of_an_old_revision_is_superseded(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("b")])
    _queue(store)

    with store.transaction() as session:
        assert jobs.begin(session, score_id) is None
    with store.transaction() as session:
        old = session.get(ScoreRow, score_id)
        assert old is not None
        assert (old.state, old.reason) == (State.FAILED, jobs.SUPERSEDED)
        assert session.scalars(select(StudyRow.state)).one() is State.QUEUED


def test_a_slow_worker_on_an_old_revision_stores_nothing(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        studies.register(session, KEY, [arrival("b")])
    assert job is not None
    _queue(store)

    with store.transaction() as session:
        assert jobs.record(session, job, SCORED, lambda _: ["pacs"]) is None

    with store.transaction() as session:
        assert session.scalars(select(StudyRow.state)).one() is State.QUEUED
        assert session.scalars(select(ResultRow)).all() == []


def test_a_revision_made_while_a_job_ends_waits_for_it(store: Store, score_id: int) -> None:
    """The end of a job and a late instance take turns, so neither overwrites the other's state."""
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        studies.register(session, KEY, [arrival("b")])
    assert job is not None
    ended = threading.Event()

    def end() -> None:
        with store.transaction() as session:
            jobs.record(session, job, SCORED, lambda _: [])
        ended.set()

    with store.transaction() as session:
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=NOON)
        session.flush()
        ending = threading.Thread(target=end)
        ending.start()
        assert not ended.wait(0.5)
    ending.join(timeout=60)

    with store.transaction() as session:
        assert session.scalars(select(StudyRow.state)).one() is State.QUEUED
        states = session.scalars(select(ScoreRow.state).order_by(ScoreRow.id)).all()
    assert states == [State.FAILED, State.QUEUED]


def test_a_delivery_ends_once(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        (delivery_id,) = jobs.record(session, job, SCORED, lambda _: ["pacs"]) or []
        sent = deliveries.begin(session, delivery_id)
        assert sent is not None
        assert deliveries.record(session, delivery_id, status=DeliveryStatus.DELIVERED, answer=0)

    with store.transaction() as session:
        assert deliveries.begin(session, delivery_id) is None
        assert not deliveries.record(session, delivery_id, status=DeliveryStatus.UNDELIVERED)


def test_the_reaper_gives_every_waiting_row_a_job_and_then_rests(store: Store, score_id: int) -> None:
    reaper = Reaper(store=store, stalled_s=30)

    assert reaper.step() == 1
    assert reaper.step() == 0
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        jobs.record(session, job, SCORED, lambda _: ["pacs", "archive"])
    assert reaper.step() == 2

    with store.transaction() as session:
        depth = engine.depth(session)
    assert (depth[Pool.INFER].waiting, depth[Pool.DELIVER].waiting) == (1, 2)


def test_a_study_that_ends_while_the_reaper_looks_is_not_rescued(
    store: Store, score_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = engine.without_live_job

    def end_first(session: Session, pool: Pool, row_ids: list[int], *, stalled_s: float) -> list[int]:
        if pool is Pool.INFER:
            with store.transaction() as other:
                job = jobs.begin(other, score_id)
                assert job is not None
                jobs.record(other, job, SCORED, lambda _: [])
        return look(session, pool, row_ids, stalled_s=stalled_s)

    monkeypatch.setattr(engine, "without_live_job", end_first)

    assert Reaper(store=store, stalled_s=30).step() == 0


def test_the_database_refuses_a_percentile_without_a_score(store: Store, score_id: int) -> None:
    with pytest.raises(IntegrityError), store.transaction() as session:
        score = session.get(ScoreRow, score_id)
        assert score is not None
        score.state, score.ended_at = State.NOT_ASSESSABLE, datetime.now(UTC)
        score.p_value = 0.5


def test_a_person_can_have_a_failed_study_tried_again(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        jobs.record(session, job, Outcome(state=State.FAILED, reason="attempts_used_up"), lambda _: [])

    replayed = ordered(store, replay, KEY)

    assert replayed.scores == 1
    with store.transaction() as session:
        again = jobs.begin(session, score_id)
        assert again is not None
        assert (again.attempt, again.run_at) == (1, NOON)
        assert engine.depth(session)[Pool.INFER].waiting == 1


def test_replay_of_an_unknown_study_says_so(store: Store) -> None:
    with pytest.raises(UnknownStudyError, match="vigil studies list"):
        ordered(store, replay, "z" * 20)

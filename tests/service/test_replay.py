import pytest
from sqlalchemy import select, text, update

from service import engine
from service.admission import Admission
from service.engine import Pool
from service.errors import StudyDeletedError
from service.replay import IN_HAND, SAME_MODEL, Replayed, rescore, resend
from service.store import Store, deliveries, jobs
from service.store.revival import NothingToSendError
from service.store.tables import AuditRow, DeliveryRow, RevisionRow, ScoreRow, StudyRow
from service.study import DeliveryStatus, PackState, Priority, State, Whereabouts
from tests.fakes import FixedCalibration
from tests.ordered import ordered
from tests.seeds import MODEL_SHA256, Seed, plant, study_key

pytestmark = pytest.mark.postgres

KEY = study_key("a")
OLD_CONFIG = "d" * 64  # as the seeds have it
ENDED = [State.SCORED, State.NOT_ASSESSABLE]


def admission(model: str = "b2" * 32, config: str = OLD_CONFIG) -> Admission:
    return Admission(model_hash=lambda: model, config_digest=FixedCalibration(digest=config).config_digest)


def jobs_of(store: Store, pool: Pool) -> list[tuple[int, int]]:
    """Row and priority of each waiting job."""
    query = text(
        "SELECT (args->>'row_id')::int, priority FROM procrastinate_jobs WHERE queue_name = :pool ORDER BY id"
    )
    with store.transaction() as session:
        return [(row_id, priority) for row_id, priority in session.execute(query, {"pool": pool.value})]


def score_again(store: Store, by: Admission) -> Replayed:
    with store.transaction() as session:
        return rescore(session, KEY, actor="ada", admission=by)


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("by", [admission(), admission(MODEL_SHA256, "e" * 64)])
def test_another_model_or_configuration_scores_an_ended_study_again(
    store: Store, state: State, by: Admission
) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state))
        session.execute(update(StudyRow).values(priority=Priority.STAT, waived="sent by hand"))

    assert score_again(store, by) == Replayed(scores=1)
    assert score_again(store, by) == Replayed(why=IN_HAND)

    with store.transaction() as session:
        study = session.scalars(select(StudyRow)).one()
        old, new = session.scalars(select(ScoreRow).order_by(ScoreRow.id)).all()
        event = session.scalars(select(AuditRow).order_by(AuditRow.number.desc())).first()
    assert (study.state, study.reason, study.ended_at, study.waived) == (State.QUEUED, None, None, None)
    assert (old.state, new.state, new.revision_id) == (state, State.QUEUED, old.revision_id)
    with store.transaction() as session:
        wanted = (by.model_hash(), by.config_digest(session, by.model_hash()))
    assert (new.model_hash, new.config_digest) == wanted
    assert jobs_of(store, Pool.INFER) == [(new.id, Priority.STAT)]
    assert event is not None
    assert (event.action, event.actor, event.detail["completed_by"]) == ("study.queued", "ada", "rescore")


@pytest.mark.parametrize("state", ENDED)
def test_the_same_model_is_not_run_twice_on_what_it_has_scored(store: Store, state: State) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state))

    assert score_again(store, admission(MODEL_SHA256)) == Replayed(why=SAME_MODEL)

    with store.transaction() as session:
        assert session.scalars(select(StudyRow.state)).one() is state
    assert jobs_of(store, Pool.INFER) == []


@pytest.mark.parametrize("state", [State.RECEIVED, State.COMPLETE, State.QUEUED])
def test_what_is_on_its_way_is_left_to_go_on(store: Store, state: State) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state))
    assert score_again(store, admission()) == Replayed(why=IN_HAND)


def test_a_failed_study_is_queued_again_as_by_a_replay(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.FAILED))
    assert score_again(store, admission()) == Replayed(scores=1)
    with store.transaction() as session:
        assert session.scalars(select(ScoreRow.state)).all() == [State.QUEUED]


def test_a_pack_that_is_gone_is_made_again_for_another_model(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"))
        session.execute(update(RevisionRow).values(pack=PackState.DELETED))
    score_again(store, admission())
    with store.transaction() as session:
        assert session.scalars(select(RevisionRow.pack)).one() is PackState.WANTED


@pytest.mark.parametrize("order", [resend, lambda *args, **kw: rescore(*args, **kw, admission=admission())])
def test_a_study_whose_bytes_are_gone_is_neither_scored_nor_sent(store: Store, order: object) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": {"pacs": DeliveryStatus.STORED}}))
        session.execute(update(StudyRow).values(bytes_are=Whereabouts.DELETED))
    with pytest.raises(StudyDeletedError):
        ordered(store, order, KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", list(DeliveryStatus))
def test_results_are_sent_again_whatever_became_of_them(store: Store, status: DeliveryStatus) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": {"pacs": status}, "seg": {"pacs": status}}))
        session.execute(update(DeliveryRow).values(attempts=9, confirm_attempts=2, fallback="old"))
        ids = list(session.scalars(select(DeliveryRow.id).order_by(DeliveryRow.id)))
        engine.enqueue(session, Pool.DELIVER, ids[0], priority=0)

    assert ordered(store, resend, KEY) == Replayed(deliveries=2)

    assert [row_id for row_id, _ in jobs_of(store, Pool.DELIVER)] == ids
    with store.transaction() as session:
        job = deliveries.begin(session, ids[0])
    assert job is not None
    assert (job.status, job.attempt, job.confirm_attempts, job.fallback) == (
        DeliveryStatus.WAITING,
        1,
        0,
        None,
    )


def test_results_are_sent_again_to_one_destination_only(store: Store) -> None:
    both = {"pacs": DeliveryStatus.STORED, "archive": DeliveryStatus.STORED}
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": both}))
    with store.transaction() as session:
        assert resend(session, KEY, actor="ada", destination="archive") == Replayed(deliveries=1)
    with store.transaction() as session:
        found = session.execute(select(DeliveryRow.destination, DeliveryRow.status))
        assert {name: status for name, status in found} == {  # noqa: C416 - rows are not pairs to dict()
            "pacs": DeliveryStatus.STORED,
            "archive": DeliveryStatus.WAITING,
        }
        event = session.scalars(select(AuditRow).order_by(AuditRow.number.desc())).first()
        assert event is not None
        assert (event.action, event.detail) == ("study.resent", {"destination": "archive", "deliveries": 1})
    with pytest.raises(NothingToSendError), store.transaction() as session:
        resend(session, KEY, actor="ada", destination="elsewhere")


def test_a_new_score_takes_the_mark_of_who_has_seen_the_old_one(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"))
        session.execute(text("UPDATE vigil.study SET seen_at = now(), seen_by = 'ada'"))
    score_again(store, admission())
    with store.transaction() as session:
        new = session.scalars(select(ScoreRow.id).order_by(ScoreRow.id.desc())).first()
        assert new is not None
        job = jobs.begin(session, new)
        assert job is not None
        outcome = jobs.Outcome(state=State.NOT_ASSESSABLE, reason="localiser")
        jobs.record(session, job, outcome, lambda _: ())
    with store.transaction() as session:
        study = session.scalars(select(StudyRow)).one()
        assert (study.seen_at, study.seen_by) == (None, None)

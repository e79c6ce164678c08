"""What a newer score makes of the results of an older one."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dicom_node.errors import DestinationRefusedError
from service.replay import Replayed, replay
from service.store import Store, deliveries, jobs, keeping, studies
from service.store.jobs import InferenceJob, Outcome
from service.store.results import StoredResult
from service.store.tables import AuditRow, DeliveryRow, ScoreRow
from service.study import DeliveryStatus, State
from tests.fakes import FakeDestination
from tests.ordered import ordered
from tests.service.test_deliver import attempt, delivery_to, row
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = pytest.mark.postgres

EVER = dict.fromkeys(State, timedelta(0))


def queue(store: Store, *, model_hash: str = "m") -> int:
    """Queue the newest revision for a model, as the intake or a rescore does; return the score."""
    with store.transaction() as session:
        revision_id = session.scalar(text("SELECT max(id) FROM vigil.revision"))
        study_state = session.scalar(text("SELECT state FROM vigil.study"))
        if study_state in {"scored", "not_assessable"}:
            session.execute(text("UPDATE vigil.study SET state = 'complete', reason = NULL, ended_at = NULL"))
        score_id = jobs.queue(session, revision_id, model_hash=model_hash, config_digest="c", run_at=NOON)
        assert score_id is not None
        return score_id


def begun(store: Store, score_id: int) -> InferenceJob:
    """Begin an attempt on a score."""
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        return job


def end(store: Store, score_id: int, number: int, state: State = State.SCORED) -> int:
    """End a score with one report for the archive; return the delivery."""
    sr = StoredResult(
        kind="sr",
        sop_class_uid="1.2",
        sop_instance_uid=f"2.25.{number}",
        path=f"x/{number}.dcm",
        sha256=f"{number}",
        bytes=1,
    )
    is_scored = state is State.SCORED
    outcome = Outcome(
        state=state,
        reason=None if is_scored else "localiser",
        values={"p_value": 0.5, "study_score": 1.0} if is_scored else {},
        results=(sr,),
    )
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        (delivery_id,) = jobs.record(session, job, outcome, lambda _: ["pacs"]) or []
        return delivery_id


@pytest.fixture
def first(store: Store) -> int:
    """Delivery of the report on the first score of a study."""
    arrive(store, "a")
    return end(store, queue(store), 1)


def arrive(store: Store, name: str) -> None:
    """Let an instance come, and the study be complete with it."""
    with store.transaction() as session:
        studies.register(session, KEY, [arrival(name)])
        assert studies.complete(session, KEY, completed_by="quiet_period", now=NOON) is not None


def newer(store: Store, by: str) -> int:
    """Score the study again, for a late instance or by another model; return the delivery."""
    if by == "instance":
        arrive(store, "b")
    return end(store, queue(store, model_hash="n"), 2, State.NOT_ASSESSABLE)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("by", ["instance", "model"])
def test_a_report_names_the_newest_one_before_it_at_every_attempt(store: Store, by: str) -> None:
    newer(store, by)
    score_id = queue(store, model_hash="o")

    found = []
    for _ in range(2):
        with store.transaction() as session:
            job = jobs.begin(session, score_id)
            assert job is not None
            found.append(job.predecessor)

    assert found == [("1.2", "2.25.2")] * 2


@pytest.mark.parametrize("by", ["instance", "model"])
def test_a_result_that_a_newer_score_replaced_is_not_sent(store: Store, first: int, by: str) -> None:
    second = newer(store, by)
    archive = FakeDestination()

    for delivery_id in (second, first):
        attempt(delivery_to(store, archive), delivery_id)

    assert [path.name for path in archive.sent] == ["2.dcm"]
    assert row(store, first).status is DeliveryStatus.WITHDRAWN
    assert row(store, first).attempts == 0
    with store.transaction() as session:
        told = session.scalars(select(AuditRow).where(AuditRow.action == "result.withdrawn")).one()
        assert (told.study_key, told.detail["kind"], told.detail["destination"]) == (KEY, "sr", "pacs")
        assert first not in deliveries.waiting(session)


def test_a_result_is_not_sent_while_the_study_is_scored_again(store: Store, first: int) -> None:
    queue(store, model_hash="n")
    archive = FakeDestination()

    attempt(delivery_to(store, archive), first)

    assert archive.sent == []


def test_what_was_under_way_when_a_newer_score_came_is_stored_as_it_ended(store: Store, first: int) -> None:
    with store.transaction() as session:
        assert deliveries.begin(session, first) is not None
    newer(store, "instance")

    with store.transaction() as session:
        assert deliveries.record(session, first, status=DeliveryStatus.DELIVERED, is_over=False)
        assert first in deliveries.waiting(session)  # to be confirmed
        assert deliveries.confirm(session, first, status=DeliveryStatus.STORED, confirmed_by="query")


def test_a_replay_sends_what_counts_and_lets_go_of_what_does_not(store: Store, first: int) -> None:
    refusing = delivery_to(store, FakeDestination(DestinationRefusedError("refused")))
    attempt(refusing, first)
    second = newer(store, "model")
    attempt(refusing, second)

    assert ordered(store, replay, KEY) == Replayed(deliveries=1)

    assert row(store, first).status is DeliveryStatus.WITHDRAWN
    assert row(store, second).status is DeliveryStatus.WAITING
    with store.transaction() as session:
        told = session.scalars(select(AuditRow).where(AuditRow.action == "study.replayed")).one()
        assert told.detail == {"scores": 0, "deliveries": 1, "withdrawn": 1}


def due(session: Session) -> list[str]:
    """Studies that go, long after."""
    then = NOON + timedelta(days=9999)
    return [one.key for one in keeping.past_age(session, EVER, now=then, limit=9, may_go=True)]


def test_a_study_goes_when_what_counts_is_stored_and_the_rest_withdrawn(store: Store, first: int) -> None:
    second = newer(store, "instance")
    attempt(delivery_to(store, FakeDestination()), first)
    with store.transaction() as session:
        assert due(session) == []

    attempt(delivery_to(store, FakeDestination()), second)

    with store.transaction() as session:
        assert due(session) == [KEY]


def test_nothing_but_withdrawn_results_is_no_proof_that_anybody_has_one(store: Store, first: int) -> None:
    arrive(store, "b")
    queue(store)
    attempt(delivery_to(store, FakeDestination()), first)
    with store.transaction() as session:
        (score,) = session.scalars(select(ScoreRow).where(ScoreRow.state == State.QUEUED))
        job = jobs.begin(session, score.id)
        assert job is not None
        assert jobs.record(session, job, Outcome(state=State.NOT_ASSESSABLE, reason="no_images"), list) == []
    with store.transaction() as session:
        (kept,) = keeping.past_age(session, EVER, now=NOON + timedelta(days=9999), limit=9)
        assert kept.why == keeping.UNSENT


def test_a_score_that_counts_again_has_its_results_sent_after_all(store: Store, first: int) -> None:
    """A model that was put in service and taken back before it had scored the study."""
    with store.transaction() as session:
        job = jobs.begin(session, queue(store, model_hash="n"))
    attempt(delivery_to(store, FakeDestination()), first)
    assert row(store, first).status is DeliveryStatus.WITHDRAWN
    assert job is not None

    with store.transaction() as session:
        assert not jobs.rename(session, job, model_hash="m", config_digest="c")

    archive = FakeDestination()
    with store.transaction() as session:
        assert first in deliveries.waiting(session)
    attempt(delivery_to(store, archive), first)
    assert [path.name for path in archive.sent] == ["1.dcm"]
    with store.transaction() as session:
        assert session.scalars(select(DeliveryRow.status)).all() == [DeliveryStatus.DELIVERED]


def test_what_was_given_up_and_withdrawn_has_its_attempts_again_when_its_score_counts_again(
    store: Store, first: int
) -> None:
    refusing = FakeDestination(DestinationRefusedError("refused"))
    attempt(delivery_to(store, refusing, attempts=1), first)
    with store.transaction() as session:
        job = jobs.begin(session, queue(store, model_hash="n"))
    ordered(store, replay, KEY)
    assert row(store, first).status is DeliveryStatus.WITHDRAWN
    assert job is not None
    with store.transaction() as session:
        assert not jobs.rename(session, job, model_hash="m", config_digest="c")

    attempt(delivery_to(store, FakeDestination(), attempts=1), first)

    assert row(store, first).status is DeliveryStatus.DELIVERED


def test_a_score_that_another_model_made_pointless_is_scored_after_all(store: Store) -> None:
    """Two models were in service in turn while both their scores waited: neither may lose the study."""
    arrive(store, "a")
    by_m = begun(store, queue(store))
    by_n = queue(store, model_hash="n")
    with store.transaction() as session:
        assert not jobs.rename(session, by_m, model_hash="n", config_digest="c")

    held = begun(store, by_n)
    with store.transaction() as session:
        assert not jobs.rename(session, held, model_hash="m", config_digest="c")

    with store.transaction() as session:
        (state,) = session.scalars(text("SELECT state FROM vigil.study"))
        assert state == "queued"
        assert list(jobs.waiting_scores(session)) == [by_m.score_id]
    end(store, by_m.score_id, 1)


def test_what_an_older_score_of_the_same_revision_says_too_late_is_not_stored(store: Store) -> None:
    """Or the newer one, which named its predecessor when it began, would name another at its next attempt."""
    arrive(store, "a")
    older = begun(store, queue(store))
    newest = begun(store, queue(store, model_hash="n"))

    with store.transaction() as session:
        assert (
            jobs.record(session, older, Outcome(state=State.NOT_ASSESSABLE, reason="localiser"), list) is None
        )

    assert begun(store, newest.score_id).predecessor == newest.predecessor
    with store.transaction() as session:
        assert session.get_one(ScoreRow, older.score_id).reason == jobs.SUPERSEDED

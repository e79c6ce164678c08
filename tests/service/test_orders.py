from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from dicom_node.services.commitment import Mailbox
from service import engine, orders, urgency
from service.deliver import Delivery
from service.engine import Pool
from service.errors import UnknownStudyError
from service.reaper import Reaper
from service.replay import replay
from service.store import Store, audit, deliveries, jobs, studies
from service.store.dead_letters import dead_letters
from service.store.objects import Unchecked
from service.store.paging import Place
from service.store.tables import AuditRow, DeliveryRow, ScoreRow, StudyRow
from service.store.worklist import worklist
from service.study import OVERDUE, Band, DeliveryStatus, Priority, State
from tests.fakes import FakeDestination
from tests.ordered import ordered
from tests.seeds import Seed, plant
from tests.service.test_jobs import SCORED
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = pytest.mark.postgres

ALL = Place(of="dead letters", limit=10)


@pytest.fixture
def score_id(store: Store) -> int:
    """A queued study with its job."""
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(
            session, revision.id, model_hash="m", config_digest="c", run_at=datetime.now(UTC)
        )
        assert score_id is not None
        engine.enqueue(session, Pool.INFER, score_id, priority=Priority.ROUTINE)
    return score_id


def _job_priorities(store: Store, pool: Pool) -> list[int]:
    with store.transaction() as session:
        return list(
            session.scalars(
                text("SELECT priority FROM procrastinate_jobs WHERE queue_name = :pool ORDER BY id"),
                {"pool": pool.value},
            )
        )


def _actions(store: Store) -> list[str]:
    with store.transaction() as session:
        audit.verify(session)
        return list(session.scalars(select(AuditRow.action).order_by(AuditRow.number)))


def _deliver(store: Store, score_id: int, *destinations: str) -> list[int]:
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        made = jobs.record(session, job, SCORED, lambda _: destinations)
        assert made is not None
        for delivery_id in made:
            engine.enqueue(session, Pool.DELIVER, delivery_id, priority=Priority.ROUTINE)
    return made


def test_a_priority_moves_the_waiting_jobs_at_once_and_never_back(store: Store, score_id: int) -> None:
    assert ordered(store, orders.prioritise, KEY, Priority.STAT).changed
    assert not ordered(store, orders.prioritise, KEY, Priority.URGENT).changed
    assert not ordered(store, orders.prioritise, KEY, Priority.STAT).changed

    assert _job_priorities(store, Pool.INFER) == [Priority.STAT]
    assert _actions(store) == ["study.prioritised"]
    _deliver(store, score_id, "pacs")
    with store.transaction() as session:
        session.execute(text("UPDATE procrastinate_jobs SET priority = 0"))
        urgency.age(session, longest_s=3600)
    assert _job_priorities(store, Pool.DELIVER) == [Priority.STAT]


@pytest.mark.parametrize(
    ("own", "waited_s", "expected"),
    [
        (Priority.SCREENING, 1000, 0),  # thousands asked for at once do not pass what comes today
        (Priority.ROUTINE, 20, 10),  # the first step comes after a quarter of the time
        (Priority.ROUTINE, 50, 19),  # half of the way from 10 to 29, rounded down
        (Priority.ROUTINE, 100, OVERDUE),
        (Priority.ROUTINE, 1000, OVERDUE),
        (Priority.URGENT, 100, OVERDUE),
        (Priority.STAT, 1000, Priority.STAT),
    ],
)
def test_work_that_waits_becomes_more_urgent_but_never_passes_stat(
    store: Store, score_id: int, own: Priority, waited_s: int, expected: int
) -> None:
    run_at = datetime.now(UTC) - timedelta(seconds=waited_s)
    with store.transaction() as session:
        session.execute(text("ALTER TABLE vigil.study DISABLE TRIGGER study_priority"))
        session.execute(update(StudyRow).values(priority=own))
        session.execute(text("ALTER TABLE vigil.study ENABLE TRIGGER study_priority"))
        session.execute(update(ScoreRow).where(ScoreRow.id == score_id).values(run_at=run_at))
        session.execute(text("UPDATE procrastinate_jobs SET priority = :own"), {"own": int(own)})

    Reaper(store=store, stalled_s=30, longest_queue_s=100).step()

    assert _job_priorities(store, Pool.INFER) == [expected]


def test_a_cancelled_study_is_failed_and_says_so_and_can_be_replayed(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        in_hand = jobs.begin(session, score_id)
    assert in_hand is not None

    assert ordered(store, orders.cancel, KEY) == orders.Ordered(changed=True, scores=1)
    assert not ordered(store, orders.cancel, KEY).changed

    with store.transaction() as session:
        assert jobs.record(session, in_hand, SCORED, lambda _: ["pacs"]) is None
        assert engine.depth(session)[Pool.INFER].waiting == 0
        row = worklist(session).rows[0]
        (letter,) = dead_letters(session, ALL).items
    assert (row.state, row.reason, row.band) == (State.FAILED, "cancelled", Band.UNJUDGED)
    assert (letter.key, letter.what, letter.reason) == (KEY, "study", "cancelled")
    assert Reaper(store=store, stalled_s=30).step() == 0
    assert ordered(store, replay, KEY).scores == 1
    assert _actions(store) == ["study.cancelled", "study.replayed"]


def test_deliveries_that_wait_are_cancelled_and_replayed(store: Store, score_id: int) -> None:
    _deliver(store, score_id, "pacs", "archive")

    assert ordered(store, orders.cancel, KEY) == orders.Ordered(changed=True, deliveries=2)

    with store.transaction() as session:
        letters = dead_letters(session, ALL).items
        assert engine.depth(session)[Pool.DELIVER].waiting == 0
        assert session.scalars(select(StudyRow.state)).one() is State.SCORED
    assert {(letter.what, letter.reason) for letter in letters} == {
        ("sr to pacs", "cancelled"),
        ("sr to archive", "cancelled"),
    }
    assert ordered(store, replay, KEY).deliveries == 2


def test_a_parked_study_is_not_scored_until_it_is_let_go(store: Store, score_id: int) -> None:
    with store.transaction() as session:
        in_hand = jobs.begin(session, score_id)
    assert in_hand is not None

    assert ordered(store, orders.park, KEY).changed
    assert not ordered(store, orders.park, KEY).changed

    with store.transaction() as session:
        assert jobs.begin(session, score_id) is None
        assert jobs.record(session, in_hand, SCORED, lambda _: ["pacs"]) is None
        row = worklist(session).rows[0]
    assert (row.reason, row.band, row.rank, row.is_parked) == ("parked", Band.UNJUDGED, None, True)
    assert Reaper(store=store, stalled_s=30).step() == 0
    assert ordered(store, orders.unpark, KEY) == orders.Ordered(changed=True, scores=1)
    assert not ordered(store, orders.unpark, KEY).changed
    with store.transaction() as session:
        again = jobs.begin(session, score_id)
    assert again is not None
    assert again.attempt == 1  # what was done while it was parked does not count
    assert _actions(store) == ["study.parked", "study.unparked"]


@pytest.mark.parametrize("state", list(State))
def test_orders_are_legal_in_every_state(store: Store, state: State) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state))
    key = Seed(name="a").key

    for order in (orders.park, orders.cancel, orders.unpark, orders.cancel, orders.park, orders.unpark):
        ordered(store, order, key)
    ordered(store, orders.prioritise, key, Priority.URGENT)

    with store.transaction() as session:
        after = session.scalars(select(StudyRow)).one()
        expected = State.FAILED if state is State.QUEUED else state
        assert (after.state, after.parked_at, after.priority) == (expected, None, Priority.URGENT)


def test_a_study_parked_while_it_arrives_waits_complete(store: Store) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
    ordered(store, orders.park, KEY)
    with store.transaction() as session:
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=NOON)
        assert score_id is not None
        assert jobs.begin(session, score_id) is None

    assert ordered(store, orders.unpark, KEY).scores == 1


def test_a_parked_destination_gets_no_attempt_and_then_everything(
    store: Store, score_id: int, tmp_path: Path
) -> None:
    parked, free = _deliver(store, score_id, "pacs", "archive")
    pacs, archive = FakeDestination(), FakeDestination()
    delivery = Delivery(
        store=store,
        objects=Unchecked(tmp_path),
        destinations={"pacs": pacs, "archive": archive},
        attempts=3,
        mailbox=Mailbox(tmp_path / "commitment"),
    )

    assert ordered(store, orders.park_destination, "pacs").changed
    assert not ordered(store, orders.park_destination, "pacs").changed
    delivery.run(parked)
    delivery.run(free)

    assert (len(pacs.sent), len(archive.sent)) == (0, 1)
    with store.transaction() as session:
        session.execute(text("DELETE FROM procrastinate_jobs"))
        assert deliveries.waiting(session) == {}
        assert session.scalar(select(func.sum(DeliveryRow.attempts))) == 1
    assert Reaper(store=store, stalled_s=30).step() == 0
    assert ordered(store, orders.unpark_destination, "pacs").deliveries == 1
    assert not ordered(store, orders.unpark_destination, "pacs").changed
    delivery.run(parked)
    assert len(pacs.sent) == 1


def test_orders_on_an_unknown_study_say_so(store: Store) -> None:
    for order in (orders.cancel, orders.park, orders.unpark):
        with pytest.raises(UnknownStudyError):
            ordered(store, order, "z" * 20)
    with pytest.raises(UnknownStudyError):
        ordered(store, orders.prioritise, "z" * 20, Priority.STAT)


def test_what_was_given_up_is_listed_newest_first(store: Store) -> None:
    results = {"sr": {"pacs": DeliveryStatus.UNDELIVERED, "archive": DeliveryStatus.STORED}}
    with store.transaction() as session:
        plant(
            session,
            Seed(name="a", state=State.FAILED, detail="last error: X"),
            Seed(name="b", results=results),
        )

    with store.transaction() as session:
        letters = dead_letters(session, ALL).items

    assert [(letter.what, letter.reason) for letter in letters] == [
        ("sr to pacs", "The destination does not answer."),
        ("study", "attempts_used_up: last error: X"),
    ]

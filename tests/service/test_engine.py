from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from service import engine
from service.engine import Pool
from service.store import Store

pytestmark = pytest.mark.postgres


def test_a_job_goes_with_its_transaction(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
        raise RuntimeError

    with store.transaction() as session:
        assert engine.depth(session)[Pool.INFER].waiting == 0
        engine.enqueue(session, Pool.INFER, 1, priority=10)

    with store.transaction() as session:
        depth = engine.depth(session)
    assert depth[Pool.INFER].waiting == 1
    assert depth[Pool.DELIVER].waiting == 0


def test_a_job_for_later_is_not_counted_as_late(store: Store) -> None:
    with store.transaction() as session:
        engine.enqueue(
            session, Pool.DELIVER, 1, priority=10, not_before=datetime.now(UTC) + timedelta(hours=1)
        )

    with store.transaction() as session:
        depth = engine.depth(session)[Pool.DELIVER]
    assert (depth.waiting, depth.oldest_s) == (1, 0.0)


def test_a_waiting_job_can_be_cancelled_once(store: Store) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 7, priority=10)
        engine.enqueue(session, Pool.INFER, 8, priority=10)

    with store.transaction() as session:
        assert engine.cancel(session, Pool.INFER, 7) == 1
        assert engine.cancel(session, Pool.INFER, 7) == 0
        assert engine.depth(session)[Pool.INFER].waiting == 1


def test_rows_of_dead_workers_are_found_and_those_of_live_ones_left(store: Store) -> None:
    with store.transaction() as session:
        for row in (1, 2, 3):
            engine.enqueue(session, Pool.INFER, row, priority=10)
        session.execute(
            text(
                "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '1 h')"
            )
        )
        for row, worker in ((1, 1), (2, 2)):
            session.execute(
                text(
                    "UPDATE procrastinate_jobs SET status = 'doing', worker_id = :worker"
                    " WHERE (args->>'row_id')::bigint = :row"
                ),
                {"row": row, "worker": worker},
            )

    with store.transaction() as session:
        lost = engine.without_live_job(session, Pool.INFER, [1, 2, 3, 4], stalled_s=30)

    assert lost == [2, 4]


def test_old_finished_rows_are_purged(store: Store) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
        engine.enqueue(session, Pool.INFER, 2, priority=10)
        session.execute(text("UPDATE procrastinate_jobs SET status = 'failed' WHERE (args->>'row_id') = '1'"))
        session.execute(text("UPDATE procrastinate_events SET at = now() - interval '2 days'"))

    with store.transaction() as session:
        engine.purge(session)
        left = session.execute(text("SELECT args->>'row_id' FROM procrastinate_jobs")).scalars().all()

    assert left == ["2"]


def test_a_clock_that_was_set_back_strands_no_job(store: Store) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    with store.transaction() as session:
        for row in (1, 2):
            engine.enqueue(session, Pool.DELIVER, row, priority=10, not_before=later)
        session.execute(
            text(
                "UPDATE procrastinate_events SET at = now() + interval '59 minutes' WHERE job_id ="
                " (SELECT id FROM procrastinate_jobs WHERE args->>'row_id' = '1')"
            )
        )

    with store.transaction() as session:
        moved = engine.follow_clock(session)
    with store.transaction() as session:
        due = session.scalars(
            text("SELECT args->>'row_id' FROM procrastinate_jobs WHERE scheduled_at <= now()")
        ).all()

    assert (moved, due) == (1, ["1"])


def test_the_job_of_a_worker_that_died_before_the_clock_was_set_back_comes_back(store: Store) -> None:
    with store.transaction() as session:
        engine.enqueue(session, Pool.INFER, 1, priority=10)
        worker = session.scalar(
            text(
                "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 h')"
                " RETURNING id"
            )
        )
        session.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing', worker_id = :worker"), {"worker": worker}
        )

    with store.transaction() as session:
        assert engine.without_live_job(session, Pool.INFER, [1], stalled_s=30) == [1]

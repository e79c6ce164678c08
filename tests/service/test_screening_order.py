"""A cohort of thousands, all asked for at once, stays below what comes today, however long it waits."""

from datetime import UTC, datetime, timedelta

import pytest

from service.store import Store, harm, urgency
from service.store.worklist import worklist
from service.study import Priority, State
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres

DAY_S = 86_400.0


def test_screening_grows_old_without_standing_before_the_clinic(store: Store) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=9)
    seeds = [
        Seed(name="cohort", p_value=0.001, received_at=old, priority=Priority.SCREENING),
        Seed(name="late", p_value=0.9, received_at=old),
        Seed(name="today", p_value=0.8, received_at=now - timedelta(hours=1)),
    ]
    with store.transaction() as session:
        plant(session, *seeds)
        rows = worklist(session, longest_unread_s=DAY_S).rows
        measured = harm.measure(session, now=now, longest_unread_s=DAY_S)

    assert [row.key for row in rows] == [seeds[1].key, seeds[2].key, seeds[0].key]
    assert [row.is_overdue for row in rows] == [True, False, False]
    assert (measured.overdue, measured.delayed) == (1, 0)


def test_a_screening_job_never_climbs_and_a_routine_one_does(store: Store) -> None:
    old = datetime.now(UTC) - timedelta(days=9)
    with store.transaction() as session:
        plant(
            session,
            Seed(name="cohort", state=State.QUEUED, received_at=old, priority=Priority.SCREENING),
            Seed(name="late", state=State.QUEUED, received_at=old),
        )
        wanted = session.execute(urgency.wanted_scores(longest_s=60.0)).all()

    assert sorted(priority for _, priority in wanted) == [Priority.SCREENING, Priority.STAT - 1]

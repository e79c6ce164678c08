"""Planted histories: who came when, who was seen when."""

from datetime import UTC, datetime, timedelta

import pytest

from service.store import Store, harm
from service.store.harm import Harm
from service.study import Priority
from tests.conftest import empty
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres

NOW = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
LIMIT_S = 3600.0


def came(name: str, hours: float, seen: float | None, priority: Priority = Priority.ROUTINE) -> Seed:
    """A study that came, and was seen, so many hours ago."""
    seen_at = None if seen is None else NOW - timedelta(hours=seen)
    return Seed(name=name, received_at=NOW - timedelta(hours=hours), seen_at=seen_at, priority=priority)


def measured(store: Store, *seeds: Seed, days: float = harm.DAYS) -> Harm:
    with store.transaction() as session:
        plant(session, *seeds)
    with store.transaction() as session:
        return harm.measure(session, now=NOW, longest_unread_s=LIMIT_S, days=days)


def test_first_come_first_seen_delays_nobody_however_long_all_wait(store: Store) -> None:
    found = measured(store, came("a", 9, 3), came("b", 8, 2), came("c", 7, None))
    assert (found.studies, found.seen, found.overdue, found.delayed, found.behind_orders) == (3, 2, 1, 0, 0)


def test_whoever_is_passed_and_waits_past_the_limit_counts(store: Store) -> None:
    found = measured(store, came("passed", 5, 2), came("later", 4, 3.5), came("last", 3, 1))
    assert (found.delayed, found.behind_orders) == (1, 0)
    assert found.longest_delayed_s == 3 * 3600


def test_whoever_is_passed_and_seen_within_the_limit_does_not_count(store: Store) -> None:
    found = measured(store, came("passed", 5, 4.1), came("later", 4.9, 4.5))
    assert found.delayed == 0


def test_whoever_waits_still_counts_once_past_the_limit(store: Store) -> None:
    found = measured(store, came("waits", 2, None), came("later", 1, 0.5), came("young", 0.6, None))
    assert (found.overdue, found.delayed) == (1, 1)


@pytest.mark.parametrize(
    ("later", "counts"), [(Priority.STAT, (0, 1)), (Priority.URGENT, (1, 0)), (Priority.ROUTINE, (1, 0))]
)
def test_what_people_ordered_as_more_urgent_is_told_apart(
    store: Store, later: Priority, counts: tuple[int, int]
) -> None:
    found = measured(store, came("urgent", 5, 1, Priority.URGENT), came("later", 4, 3, later))
    assert (found.delayed, found.behind_orders) == counts


def test_what_came_in_the_same_moment_is_not_later(store: Store) -> None:
    assert measured(store, came("one", 5, 1), came("other", 5, 4)).delayed == 0


def test_only_the_days_asked_for_are_compared(store: Store) -> None:
    seeds = came("old", 50, 47), came("later", 49, 48)
    assert measured(store, *seeds).delayed == 1
    empty(store)
    assert measured(store, *seeds, days=2).studies == 0

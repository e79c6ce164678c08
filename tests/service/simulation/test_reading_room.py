"""The reading room against queueing theory, and its orders rule by rule."""

from dataclasses import replace
from math import factorial

import numpy as np
import pytest

from service.simulation.reading_room import Day, Order, first_come, oracle, vigil, waits
from service.study import Priority


def day_of(
    arrival_h: list[float],
    *,
    reading_h: float = 1.0,
    p_value: list[float] | None = None,
    priority: dict[int, Priority] | None = None,
    scored_after_h: float = 0.0,
) -> Day:
    """A few studies by hand, each of the same length."""
    count = len(arrival_h)
    arrivals = np.array(arrival_h, dtype=np.float64)
    p_values = np.array(p_value or [1.0] * count)
    return Day(
        arrival_h=arrivals,
        reading_h=np.full(count, reading_h),
        priority=np.array([(priority or {}).get(i, Priority.ROUTINE) for i in range(count)]),
        is_abnormal=p_values < 0.1,
        p_value=p_values,
        score=1 - p_values,
        scored_h=arrivals + scored_after_h,
    )


def read_order(day: Day, order: Order) -> list[int]:
    """Indices in the order of reading, by one reader."""
    started = waits(day, order, 1) + day.arrival_h
    return [int(i) for i in np.argsort(started)]


def poisson_day(rate: float, mean_h: float, count: int, seed: int, abnormal: float = 0.0) -> Day:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, count))
    return Day(
        arrival_h=arrival,
        reading_h=rng.exponential(mean_h, count),
        priority=np.full(count, Priority.ROUTINE),
        is_abnormal=rng.random(count) < abnormal,
        p_value=np.ones(count),
        score=np.zeros(count),
        scored_h=arrival,
    )


def erlang_c(servers: int, offered: float) -> float:
    """Chance that an arrival waits in M/M/c (Erlang 1917)."""
    last = offered**servers / factorial(servers) * servers / (servers - offered)
    return last / (sum(offered**k / factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize(("readers", "load"), [(1, 0.7), (3, 0.8), (8, 0.9)])
def test_waits_are_those_of_the_queue_m_m_c(readers: int, load: float) -> None:
    mean_h, count = 0.25, 120_000
    rate = load * readers / mean_h
    means, waiting = [], []
    for seed in range(4):
        day = poisson_day(rate, mean_h, count // 4, seed)
        waited = waits(day, first_come(day), readers)[1000:]
        means.append(waited.mean())
        waiting.append((waited > 0).mean())

    chance = erlang_c(readers, load * readers)
    assert np.mean(waiting) == pytest.approx(chance, rel=0.06)
    # Waits of neighbours depend on each other: the spread of independent runs is the measure.
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    expected = chance * mean_h / (readers * (1 - load))
    assert np.mean(means) == pytest.approx(expected, abs=max(4 * error, 0.05 * expected))


def test_an_order_of_two_classes_waits_as_cobham_says() -> None:
    """Non-preemptive priorities in M/M/c (Cobham 1954): the oracle's two classes, abnormal first."""
    readers, load, mean_h, share = 3, 0.8, 0.25, 0.3
    rate = load * readers / mean_h
    found = []
    for seed in range(4):
        day = poisson_day(rate, mean_h, 30_000, 10 + seed, abnormal=share)
        waited = waits(day, oracle(day), readers)
        found.append((waited[day.is_abnormal].mean(), waited[~day.is_abnormal].mean()))
    abnormal, normal = np.mean(found, axis=0)

    base = erlang_c(readers, load * readers) * mean_h / readers
    assert abnormal == pytest.approx(base / (1 - share * load), rel=0.06)
    assert normal == pytest.approx(base / ((1 - share * load) * (1 - load)), rel=0.12)


def test_what_an_order_saves_for_some_it_takes_from_others() -> None:
    """Readings of one length distribution: no order changes the mean wait of all (Kleinrock)."""
    day = poisson_day(8.0, 0.22, 20_000, 3, abnormal=0.2)

    assert waits(day, oracle(day), 2).mean() == pytest.approx(waits(day, first_come(day), 2).mean(), rel=0.03)


def test_first_come_reads_as_they_came() -> None:
    day = day_of([0, 0.1, 0.2, 0.3], p_value=[1, 0.5, 0.01, 0.2])

    assert read_order(day, first_come(day)) == [0, 1, 2, 3]


def test_stat_is_first_of_what_is_alike_in_every_order() -> None:
    day = day_of(
        [0, 0.1, 0.2, 0.3, 0.4],
        p_value=[1, 0.01, 0.9, 0.8, 0.02],
        priority={2: Priority.STAT, 3: Priority.STAT},
    )

    for order in (first_come(day), oracle(day)):
        assert read_order(day, order)[:3] == [0, 2, 3]
    # On the list the more unusual of two STAT studies is first, while neither is overdue.
    assert read_order(day, vigil(day, 100.0))[:3] == [0, 3, 2]
    assert read_order(day, vigil(day, 0.5))[:3] == [0, 2, 3]


def test_no_priority_takes_a_study_out_of_its_band() -> None:
    """What could not be judged is above every ranked study, what is not scored yet below all (I7)."""
    unjudged, late = float("nan"), 50.0
    day = day_of(
        [0, 0.1, 0.2, 0.3, 0.4],
        p_value=[1, 0.9, unjudged, 0.01, 0.5],
        priority={1: Priority.STAT, 3: Priority.STAT, 4: Priority.URGENT},
    )
    day = replace(day, scored_h=np.array([0, 0.1, 0.2, late, 0.4]))

    # Routine that could not be judged, STAT and urgent of the ranked, STAT that waits for its score.
    assert read_order(day, vigil(day, 100.0)) == [0, 2, 1, 4, 3]
    # An overdue one leaves its band no more than a STAT one does.
    assert read_order(day, vigil(day, 0.2)) == [0, 2, 1, 4, 3]


def test_screening_never_grows_overdue() -> None:
    arrival = [0, 0.1, 0.2, 0.3]
    day = day_of(arrival, p_value=[1, 1, 0.5, 0.4], priority={1: Priority.SCREENING})

    assert read_order(day, vigil(day, 0.5)) == [0, 2, 3, 1]


def test_vigil_reads_the_most_unusual_first_then_by_score_then_as_they_came() -> None:
    day = day_of([0, 0.1, 0.2, 0.3, 0.4, 0.5], p_value=[1, 0.5, 0.01, 0.01, 0.01, 0.2])
    day = replace(day, score=np.array([0, 0.5, 1.0, 2.0, 2.0, 0.8]))

    assert read_order(day, vigil(day, 100.0)) == [0, 3, 4, 2, 5, 1]


def test_urgent_is_before_routine_whatever_the_percentile() -> None:
    day = day_of([0, 0.1, 0.2], p_value=[1, 0.01, 0.9], priority={2: Priority.URGENT})

    assert read_order(day, vigil(day, 100.0)) == [0, 2, 1]


def test_an_overdue_study_passes_everything_but_stat_and_the_oldest_is_first() -> None:
    arrival = [0, 0.1, 0.2, *[0.3 + 0.9 * i for i in range(6)]]
    day = day_of(arrival, p_value=[1, 0.9, 0.8, *[0.01] * 6], priority={8: Priority.STAT})

    # From 3.1 hours on the second study, and soon the third, waits longer than three hours.
    assert read_order(day, vigil(day, 3.0)) == [0, 3, 4, 5, 1, 8, 2, 6, 7]


def test_no_study_waits_much_longer_than_the_limit_while_the_readers_keep_up() -> None:
    day = poisson_day(7.0, 0.25, 6000, 5)
    day = replace(day, p_value=np.random.default_rng(6).random(6000))

    assert waits(day, vigil(day, 4.0), 2).max() < 4.0 + 4.0
    assert waits(day, vigil(day, 1e9), 2).max() > waits(day, vigil(day, 4.0), 2).max()


def test_what_could_not_be_judged_is_never_behind_what_could() -> None:
    day = day_of([0, 0.1, 0.2], p_value=[1, 0.001, float("nan")])

    assert read_order(day, vigil(day, 100.0)) == [0, 2, 1]


def test_a_study_without_its_score_yet_waits_behind_those_that_have_one() -> None:
    day = day_of([0, 0.1, 0.2, 0.3], p_value=[1, 0.001, 0.9, 0.8])
    day = replace(day, scored_h=np.array([0, 50, 0.3, 0.4]))

    assert read_order(day, vigil(day, 100.0)) == [0, 3, 2, 1]


def test_a_reader_reads_what_there_is_though_no_score_has_come() -> None:
    day = day_of([0, 0.1, 0.2], scored_after_h=100)

    assert waits(day, vigil(day, 1000.0), 1) == pytest.approx([0, 0.9, 1.8])


def test_idle_readers_begin_with_the_arrival() -> None:
    day = day_of([1.0, 5.0, 5.1, 5.2])

    assert waits(day, first_come(day), 2) == pytest.approx([0, 0, 0, 0.8])

"""The list against the rules of its order, written once more as a plain sort."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from service.errors import ForgedCursorError, StaleCursorError
from service.store import Store, orders, studies
from service.store.order import EVERYTHING, Sort, WorklistQuery
from service.store.tables import ScoreRow, StudyRow
from service.store.worklist import Worklist, worklist, worklist_row
from service.study import Band, Priority, State, band
from tests.conftest import empty
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC)
LIMIT_S = 3600.0  # a study that came more than an hour ago is overdue


def minutes(count: float) -> datetime:
    """Return a time before now, so that no clock of the test decides who is overdue."""
    return NOW - timedelta(minutes=count)


def listed(store: Store, query: WorklistQuery = EVERYTHING, **page: Any) -> Worklist:
    with store.transaction() as session:
        return worklist(session, query, longest_unread_s=LIMIT_S, **page)


def turned(store: Store, query: WorklistQuery = EVERYTHING, *, limit: int) -> list[Worklist]:
    """All pages, first to last."""
    found = [listed(store, query, limit=limit)]
    while found[-1].next:
        found.append(listed(store, query, limit=limit, cursor=found[-1].next))
    return found


def planted(store: Store, *seeds: Seed) -> None:
    with store.transaction() as session:
        plant(session, *seeds)


def keys(*found: Worklist) -> list[str]:
    return [row.key for page in found for row in page.rows]


def named(seeds: list[Seed], found: Worklist) -> list[str]:
    names = {seed.key: seed.name for seed in seeds}
    return [names[row.key] for row in found.rows]


def standing(seed: Seed) -> int:
    """Position of its band on the list."""
    is_aside = seed.parked_at is not None and seed.state is not State.SCORED and not seed.has_raw_score
    return list(Band).index(Band.UNJUDGED if is_aside else band(seed.state, has_raw_score=seed.has_raw_score))


def by_numbers(seed: Seed) -> tuple[float, ...]:
    if seed.state is State.SCORED:
        return (seed.p_value, seed.p_value if seed.tail is None else seed.tail, -seed.study_score)
    return (0, 0, -seed.study_score if seed.has_raw_score else 0)


def by_triage(seed: Seed) -> tuple[float, ...]:
    """The order of the list as a sort key."""
    arrival = seed.received_at.timestamp()
    if seed.seen_at is not None:
        return (standing(seed), 6, -seed.seen_at.timestamp())
    is_stat = seed.priority is Priority.STAT
    if seed.received_at <= NOW - timedelta(seconds=LIMIT_S) and seed.priority is not Priority.SCREENING:
        return (standing(seed), 0 if is_stat else 2, arrival)
    tier = {Priority.STAT: 1, Priority.URGENT: 3, Priority.ROUTINE: 4, Priority.SCREENING: 5}[seed.priority]
    return (standing(seed), tier, *by_numbers(seed), arrival)


BY = {
    Sort.TRIAGE: by_triage,
    Sort.PERCENTILE: lambda seed: (
        standing(seed),
        *by_numbers(seed),
        seed.received_at.timestamp(),
    ),
    Sort.OLDEST: lambda seed: (standing(seed), seed.received_at.timestamp()),
    Sort.NEWEST: lambda seed: (standing(seed), -seed.received_at.timestamp()),
}

drawn_seeds = st.lists(
    st.tuples(
        st.sampled_from(State),
        st.sampled_from([0.01, 0.3, 1.0]),
        st.sampled_from([-1.5, 0.0, 2.0]),
        st.sampled_from(Priority),
        st.sampled_from([5, 30, 90, 300]),  # minutes ago; the last two are overdue
        st.sampled_from([None, 1, 20]),
        st.booleans(),
        st.sampled_from(["localiser", "uncalibrated", "drifted"]),
        st.sampled_from([None, 0.001, 0.005]),
    ),
    max_size=14,
)


OF_A_COHORT = [  # it never grows overdue: what comes today stands before it
    (State.RECEIVED, 0.3, 0.0, priority, came, None, False, "localiser", None)
    for priority, came in ((Priority.SCREENING, 90), (Priority.ROUTINE, 5))
]


def made(drawn: list[tuple[Any, ...]]) -> list[Seed]:
    """Studies of what was drawn; no two came, or were seen, at one moment."""
    return [
        Seed(
            name=str(n),
            state=state,
            p_value=p_value,
            study_score=score,
            priority=priority,
            received_at=minutes(came + n / 100),
            seen_at=None if seen is None else minutes(seen + n / 100),
            parked_at=NOW if is_parked else None,
            reason=reason if state is State.NOT_ASSESSABLE else None,
            tail=tail,
        )
        for n, (state, p_value, score, priority, came, seen, is_parked, reason, tail) in enumerate(drawn)
    ]


@pytest.fixture(scope="module", autouse=True)
def _one_moment() -> Iterator[None]:
    """The limit is counted from the clock: tests of a minute must not cross it.

    From their own beginning: this module was read when all tests were collected.
    """
    global NOW  # noqa: PLW0603 - what all of them count from
    NOW = datetime.now(UTC)
    yield
    assert datetime.now(UTC) - NOW < timedelta(minutes=25)


@given(drawn=drawn_seeds, sort=st.sampled_from(Sort), limit=st.integers(1, 5))
@example(drawn=OF_A_COHORT, sort=Sort.TRIAGE, limit=1)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_list_and_its_pages_are_a_plain_sort_of_the_rules(
    store: Store, drawn: list[tuple[Any, ...]], sort: Sort, limit: int
) -> None:
    empty(store)
    seeds = made(drawn)
    planted(store, *seeds)
    wanted = [seed.key for seed in sorted(seeds, key=BY[sort])]
    query = WorklistQuery(sort=sort)

    whole = listed(store, query)
    pages = turned(store, query, limit=limit)

    assert keys(whole) == keys(*pages) == wanted
    back = [listed(store, query, limit=limit, cursor=pages[-1].previous)] if pages[-1].previous else []
    while back and back[-1].previous:
        back.append(listed(store, query, limit=limit, cursor=back[-1].previous))
    assert keys(*reversed(back), pages[-1]) == wanted
    ranks = [row.rank for page in pages for row in page.rows if row.rank is not None]
    assert ranks == (list(range(1, len(ranks) + 1)) if sort is Sort.TRIAGE else [])
    if sort is Sort.TRIAGE:
        with store.transaction() as session:
            alone = [worklist_row(session, key, longest_unread_s=LIMIT_S) for key in wanted]
        assert alone == list(whole.rows)


def test_a_page_over_inserts_neither_skips_nor_repeats_what_stood_there(store: Store) -> None:
    seeds = [Seed(name=str(n), p_value=(n + 1) / 20, received_at=minutes(n)) for n in range(9)]
    planted(store, *seeds)
    pages = [listed(store, limit=3)]
    while pages[-1].next:
        number = len(pages)
        planted(
            store,
            Seed(name=f"above{number}", p_value=0.001, received_at=minutes(2)),
            Seed(name=f"new{number}", state=State.FAILED, received_at=minutes(1)),
        )
        pages.append(listed(store, limit=3, cursor=pages[-1].next))

    assert keys(*pages) == [seed.key for seed in seeds]


def test_who_becomes_overdue_while_pages_are_turned_is_neither_lost_nor_doubled(store: Store) -> None:
    seeds = [Seed(name=str(n), p_value=(n + 1) / 20, received_at=minutes(n)) for n in range(6)]
    planted(store, *seeds)
    first = listed(store, limit=3)
    with store.transaction() as session:
        later = worklist(session, cursor=first.next, limit=3, longest_unread_s=LIMIT_S)

    assert later.at == first.at
    assert keys(first, later) == [seed.key for seed in seeds]


def test_every_row_says_why_it_stands_there(store: Store) -> None:
    seeds = [
        Seed(name="failed", state=State.FAILED, received_at=minutes(1)),
        Seed(name="declined", state=State.NOT_ASSESSABLE, received_at=minutes(2)),
        Seed(name="parked", state=State.QUEUED, parked_at=NOW, received_at=minutes(3)),
        Seed(name="new scanner", state=State.NOT_ASSESSABLE, reason="uncalibrated", received_at=minutes(1)),
        Seed(name="stat", priority=Priority.STAT, p_value=0.9, received_at=minutes(1)),
        Seed(name="overdue", p_value=0.8, received_at=minutes(150)),
        Seed(name="urgent", priority=Priority.URGENT, p_value=0.7, received_at=minutes(1)),
        Seed(name="equal", p_value=0.1, study_score=2.0, received_at=minutes(1)),
        Seed(name="other", p_value=0.1, study_score=1.0, received_at=minutes(1)),
        Seed(name="screening", priority=Priority.SCREENING, p_value=0.01, received_at=minutes(1)),
        Seed(name="seen", p_value=0.02, seen_at=minutes(1), received_at=minutes(200)),
        Seed(name="pending", state=State.QUEUED, received_at=minutes(1)),
    ]
    planted(store, *seeds)
    found = listed(store)
    names = {seed.key: seed.name for seed in seeds}
    codes = {names[row.key]: [why.code for why in row.why] for row in found.rows}

    assert codes == {
        "parked": ["parked"],
        "declined": ["not_assessable"],
        "failed": ["failed"],
        "new scanner": ["uncalibrated"],
        "stat": ["stat", "percentile"],
        "overdue": ["overdue"],
        "urgent": ["urgent", "percentile"],
        "equal": ["percentile", "raw_score"],
        "other": ["percentile", "raw_score"],
        "screening": ["screening", "percentile"],
        "seen": ["seen"],
        "pending": ["pending"],
    }
    texts = " ".join(why.text for row in found.rows for why in row.why)
    assert "for 2 h; the limit is 60 min" in texts
    assert "Not calibrated for this scanner." in texts
    assert "Percentile 10.0 against T1 brain, adults (n = 6)." in texts
    assert [row.is_overdue for row in found.rows].count(True) == 1
    assert [why.code for why in listed(store, WorklistQuery(sort=Sort.NEWEST)).rows[-1].why] == [
        "pending",
        "sorted",
    ]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (WorklistQuery(band=Band.UNJUDGED), "bcd"),
        (WorklistQuery(band=Band.UNCALIBRATED), "h"),
        (WorklistQuery(state=State.NOT_ASSESSABLE), "ch"),
        (WorklistQuery(state=State.FAILED), "b"),
        (WorklistQuery(state=State.QUEUED), "de"),
        (WorklistQuery(modality="CT"), "f"),
        (WorklistQuery(sender="ER"), "a"),
        (WorklistQuery(priority=Priority.STAT), "af"),
        (WorklistQuery(model="brain-t1-cevae"), "afg"),
        (WorklistQuery(model="brain"), ""),
        (WorklistQuery(percentile_below=50), "ag"),
        (WorklistQuery(percentile_below=50, priority=Priority.STAT), "a"),
        (WorklistQuery(seen=True), "g"),
        (WorklistQuery(seen=False), "abcdefh"),
        (WorklistQuery(assigned_to="lee"), "b"),
        (WorklistQuery(assigned_to=""), "acdefgh"),
        (WorklistQuery(text="KNEE"), "c"),
        (WorklistQuery(text="scanner"), "bcdefgh"),
        (WorklistQuery(text="100%_"), "d"),
        (WorklistQuery(seen=True, state=State.FAILED), ""),
    ],
)
def test_a_filter_lets_through_what_it_says(store: Store, query: WorklistQuery, wanted: str) -> None:
    some_of_everything(store)
    expected = {Seed(name=name).key for name in wanted}
    found = listed(store, query)

    assert set(keys(found)) == expected
    assert found.total == len(expected)
    assert sum(found.counts.values()) == 8


def test_a_time_lets_through_what_came_before_or_after_it(store: Store) -> None:
    some_of_everything(store)
    moment = minutes(25)

    later, earlier = WorklistQuery(received_from=moment), WorklistQuery(received_to=moment)

    assert set(keys(listed(store, later))) == {Seed(name=name).key for name in "abc"}
    assert set(keys(listed(store, earlier))) == {Seed(name=name).key for name in "defgh"}


def some_of_everything(store: Store) -> None:
    planted(
        store,
        Seed(name="a", sender="ER", p_value=0.1, priority=Priority.STAT, received_at=minutes(5)),
        Seed(name="b", state=State.FAILED, received_at=minutes(10)),
        Seed(name="c", state=State.NOT_ASSESSABLE, description="Right knee", received_at=minutes(20)),
        Seed(name="d", state=State.QUEUED, parked_at=NOW, description="100%_", received_at=minutes(30)),
        Seed(name="e", state=State.QUEUED, received_at=minutes(31)),
        Seed(name="f", modality="CT", p_value=0.6, priority=Priority.STAT, received_at=minutes(90)),
        Seed(name="g", p_value=0.4, seen_at=minutes(1), received_at=minutes(95)),
        Seed(name="h", state=State.NOT_ASSESSABLE, reason="drifted", received_at=minutes(96)),
    )
    with store.transaction() as session:
        session.execute(update(StudyRow).where(StudyRow.state == State.FAILED).values(assigned_to="lee"))


def test_many_are_counted_up_to_a_bound_once_and_all_of_them_are_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.worklist.FEW", 2)
    monkeypatch.setattr("service.store.worklist.MOST_COUNTED", 4)
    ages = [minutes(number) for number in (1, 2, 3, 100, 101, 102)]
    planted(store, *(Seed(name=str(at), received_at=at, sender="ER") for at in ages), Seed(name="other"))
    query = WorklistQuery(sender="ER")

    pages = turned(store, query, limit=2)
    assert sorted(keys(*pages)) == sorted(Seed(name=str(at)).key for at in ages)
    assert [(page.total, page.is_total_exact) for page in pages] == [(4, False)] * 3

    everything = listed(store, WorklistQuery(sort=Sort.OLDEST), limit=2)
    assert (everything.total, everything.is_total_exact) == (7, True)

    narrower = WorklistQuery(sender="ER", received_from=minutes(50))
    first = listed(store, narrower, limit=2)
    planted(store, Seed(name="later", received_at=minutes(0.5), sender="ER"))
    second = listed(store, narrower, limit=2, cursor=first.next)
    assert [(page.total, page.is_total_exact) for page in (first, second)] == [(3, True)] * 2
    assert len(second.rows) == 2


def test_a_cursor_of_another_query_or_of_nobody_is_refused(store: Store) -> None:
    planted(store, *(Seed(name=str(n), received_at=minutes(n)) for n in range(3)))
    cursor = listed(store, limit=1).next
    assert cursor is not None
    with pytest.raises(StaleCursorError):
        listed(store, WorklistQuery(modality="MR"), cursor=cursor)
    with pytest.raises(StaleCursorError), store.transaction() as session:
        worklist(session, cursor=cursor, longest_unread_s=LIMIT_S + 1)
    swapped = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    for forged in (swapped, "", "x", "ä", "A" * 60, cursor + "A", cursor[4:]):
        with pytest.raises(ForgedCursorError):
            listed(store, cursor=forged or "=")


def test_a_score_of_a_new_revision_takes_the_place_and_the_mark_away(store: Store) -> None:
    seed = Seed(name="a", seen_at=minutes(1), received_at=minutes(10))
    planted(store, seed)
    with store.transaction() as session:
        study = studies.locked(session, seed.key)
        study.state, study.ended_at = State.COMPLETE, None
    row = listed(store).rows[0]
    assert (row.band, row.seen_at, row.seen_by) == (Band.PENDING, None, None)
    with store.transaction() as session:
        assert session.scalar(text("SELECT first_seen_at FROM vigil.study")) == seed.seen_at


def test_the_place_of_a_study_is_what_its_score_says_whoever_writes(store: Store) -> None:
    """A place cannot be written by hand, and a score that changes changes it in the same transaction."""
    planted(store, Seed(name="a", p_value=0.5, received_at=minutes(1)))
    with store.transaction() as session:
        session.execute(text("UPDATE vigil.study SET band = 2, p_value = 0.001, score_id = 99"))
        place = session.execute(text("SELECT band, p_value FROM vigil.study")).one()
        session.execute(update(ScoreRow).values(p_value=0.25))
        moved = session.execute(text("SELECT band, p_value FROM vigil.study")).one()
    assert (tuple(place), tuple(moved)) == ((1, 0.5), (1, 0.25))


def test_a_raw_score_without_a_percentile_is_listed_and_never_ranked(store: Store) -> None:
    seed = Seed(name="a", state=State.NOT_ASSESSABLE, reason="drifted", study_score=4.5, p_value=0.001)
    planted(store, seed, Seed(name="b", p_value=0.001, study_score=9.0))
    row, ranked = listed(store).rows
    assert (row.key, row.band, row.raw_score) == (seed.key, Band.UNCALIBRATED, 4.5)
    assert (row.rank, row.percentile, row.assessment, row.scored_series) == (None, None, None, "")
    assert (ranked.rank, ranked.raw_score) == (1, None)
    for change in ("p_value = 0.5", "reason = 'localiser'"):
        with pytest.raises(IntegrityError), store.transaction() as session:
            session.execute(
                text(f"UPDATE vigil.score SET {change} WHERE state = 'not_assessable'")  # noqa: S608 - above
            )


def test_a_parked_study_stands_where_a_person_looks_until_it_is_let_go(store: Store) -> None:
    seed = Seed(name="a", state=State.QUEUED, received_at=minutes(1))
    planted(store, seed)
    bands = []
    for order in (orders.park, orders.unpark):
        with store.transaction() as session:
            order(session, seed.key)
        bands.append(listed(store).rows[0].band)
    assert bands == [Band.UNJUDGED, Band.PENDING]


def test_a_priority_nobody_knows_and_a_mark_of_nobody_are_refused(store: Store) -> None:
    planted(store, Seed(name="a", received_at=minutes(1)))
    for change in ("priority = 11", "seen_at = now()"):
        with pytest.raises(IntegrityError), store.transaction() as session:
            session.execute(text(f"UPDATE vigil.study SET {change}"))  # noqa: S608 - the two above

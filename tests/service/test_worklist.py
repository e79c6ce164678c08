from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, func, update

from service.errors import UnknownStudyError
from service.store import Store
from service.store.detail import study_detail
from service.store.order import EVERYTHING, WorklistQuery
from service.store.pictures import picture_of
from service.store.tables import StudyRow
from service.store.worklist import Worklist, worklist
from service.study import ENDED, Band, DeliveryStatus, State
from tests.conftest import empty
from tests.seeds import (
    CALIBRATION_SHA256,
    GROUP,
    MODEL,
    MODEL_SHA256,
    MORNING,
    NEVER_OVERDUE_S,
    REGIONS,
    Seed,
    plant,
)

pytestmark = pytest.mark.postgres

STATUSES = {"archive": DeliveryStatus.DELIVERED}


def listed(store: Store, query: WorklistQuery = EVERYTHING, **page: Any) -> Worklist:
    with store.transaction() as session:
        return worklist(session, query, **{"longest_unread_s": NEVER_OVERDUE_S, **page})


def planted(store: Store, *seeds: Seed) -> Worklist:
    with store.transaction() as session:
        plant(session, *seeds)
    return listed(store)


def names(found: Worklist, *seeds: Seed) -> list[str]:
    by_key = {seed.key: seed.name for seed in seeds}
    return [by_key[row.key] for row in found.rows]


def test_what_nobody_could_judge_stands_above_the_ranked_and_the_pending_come_last(store: Store) -> None:
    seeds = (
        Seed(name="pending", state=State.QUEUED),
        Seed(name="usual", p_value=0.9),
        Seed(name="failed", state=State.FAILED, received_at=MORNING + timedelta(hours=1)),
        Seed(name="unusual", p_value=0.1),
        Seed(name="declined", state=State.NOT_ASSESSABLE),
    )
    found = planted(store, *seeds)
    assert names(found, *seeds) == ["declined", "failed", "unusual", "usual", "pending"]
    assert [row.rank for row in found.rows] == [None, None, 1, 2, None]


def test_equal_percentiles_are_ordered_by_raw_score_then_by_arrival(store: Store) -> None:
    later = MORNING + timedelta(minutes=5)
    seeds = (
        Seed(name="late", p_value=0.5, study_score=1.0, received_at=later),
        Seed(name="early", p_value=0.5, study_score=1.0),
        Seed(name="strong", p_value=0.5, study_score=2.0, received_at=later),
    )
    assert names(planted(store, *seeds), *seeds) == ["strong", "early", "late"]


@given(
    drawn=st.lists(
        st.tuples(
            st.sampled_from(State), st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([-1.0, 0.0, 2.5])
        ),
        max_size=12,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_list_is_ordered_and_only_scored_studies_carry_numbers(
    store: Store, drawn: list[tuple[State, float, float]]
) -> None:
    empty(store)
    seeds = [
        Seed(name=str(index), state=state, p_value=p, study_score=score)
        for index, (state, p, score) in enumerate(drawn)
    ]
    found = planted(store, *seeds)
    assert [row.band for row in found.rows] == sorted(row.band for row in found.rows)
    ranked = [row for row in found.rows if row.band is Band.RANKED]
    assert [row.rank for row in ranked] == list(range(1, len(ranked) + 1))
    keys = [(row.assessment.p_value, -row.assessment.study_score) for row in ranked if row.assessment]
    assert keys == sorted(keys)
    assert len(keys) == len(ranked)
    for row in found.rows:
        is_scored = row.state is State.SCORED
        assert (row.rank is not None, row.assessment is not None) == (is_scored, is_scored)
    assert found.counts == {
        state: sum(drawn_state is state for drawn_state, _, _ in drawn) for state in State
    }


def test_every_number_names_model_calibration_group_and_time(store: Store) -> None:
    assessment = planted(store, Seed(name="a", p_value=1 / 7)).rows[0].assessment
    assert assessment is not None
    assert assessment.percentile == pytest.approx(100 / 7)
    assert assessment.model.sha256 == MODEL_SHA256
    assert assessment.calibration_sha256 == CALIBRATION_SHA256
    assert (assessment.reference_group, assessment.reference_n) == (GROUP, MODEL.n)
    assert assessment.run_at == MORNING + timedelta(minutes=1)


@pytest.mark.parametrize("state", [State.COMPLETE, State.QUEUED])
def test_a_study_whose_new_revision_is_being_scored_is_pending_again(store: Store, state: State) -> None:
    row = planted(store, Seed(name="again", state=state, revisions=2)).rows[0]
    assert (row.band, row.rank, row.assessment) == (Band.PENDING, None, None)
    assert row.waiting_since == MORNING + timedelta(minutes=1)


def test_a_study_declined_in_its_new_revision_shows_nothing_of_the_old_score(store: Store) -> None:
    row = planted(store, Seed(name="again", state=State.NOT_ASSESSABLE, revisions=2)).rows[0]
    assert (row.band, row.rank, row.assessment) == (Band.UNJUDGED, None, None)


def test_a_study_that_says_scored_without_a_score_needs_a_person(store: Store) -> None:
    seed = Seed(name="hollow", state=State.QUEUED)
    planted(store, seed)
    with store.transaction() as session:
        session.execute(update(StudyRow).values(state=State.SCORED, ended_at=func.now()))
    row = listed(store).rows[0]
    assert (row.band, row.rank, row.assessment) == (Band.UNJUDGED, None, None)


def test_a_scored_study_with_late_images_says_so(store: Store) -> None:
    row = planted(store, Seed(name="late", is_pending=True)).rows[0]
    assert row.is_receiving
    assert row.rank == 1


def test_results_are_listed_with_every_destination_and_without_one(store: Store) -> None:
    results = {
        "seg": {"archive": DeliveryStatus.DELIVERED, "viewer": DeliveryStatus.WAITING},
        "sr": {},
    }
    row = planted(store, Seed(name="a", results=results)).rows[0]
    assert [(result.kind, result.destination, result.status) for result in row.results] == [
        ("seg", "archive", DeliveryStatus.DELIVERED),
        ("seg", "viewer", DeliveryStatus.WAITING),
        ("sr", None, None),
    ]


def test_a_page_keeps_the_ranks_and_counts_of_the_whole_list(store: Store) -> None:
    seeds = [Seed(name=str(index), p_value=(index + 1) / 10) for index in range(5)]
    planted(store, *seeds)
    first = listed(store, limit=3)
    page = listed(store, limit=2, cursor=first.next)
    assert [row.rank for row in page.rows] == [4, 5]
    assert (page.total, page.counts[State.SCORED]) == (5, 5)


def test_the_number_of_queries_does_not_grow_with_the_list(store: Store) -> None:
    def queries(count: int) -> tuple[int, int]:
        empty(store)
        seeds = [Seed(name=str(index), results={"seg": STATUSES, "sr": STATUSES}) for index in range(count)]
        planted(store, *seeds)
        statements: list[str] = []
        event.listen(store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        listed(store)
        of_list = len(statements)
        with store.transaction() as session:
            study_detail(session, seeds[0].key)
        return of_list, len(statements) - of_list

    assert queries(1) == queries(7)


def test_the_detail_of_a_study_holds_what_happened_to_it(store: Store) -> None:
    seed = Seed(
        name="a",
        p_value=0.25,
        revisions=2,
        regions=REGIONS,
        pictures=8,
        results={"sc": STATUSES, "sr": STATUSES},
    )
    planted(store, seed, Seed(name="b", p_value=0.1))
    with store.transaction() as session:
        detail = study_detail(session, seed.key, longest_unread_s=NEVER_OVERDUE_S)
    assert (detail.row.rank, detail.ranked) == (2, 2)
    assert [revision.number for revision in detail.revisions] == [2, 1]
    assert (detail.instances, detail.bytes) == (3, 3000)
    assert detail.current is not None
    assert detail.current.regions[0].slice_index == REGIONS[0]["slice_index"]
    assert detail.current.pictures == 8
    assert [series.is_scored for series in detail.current.series] == [True, False]
    assert [result.deliveries[0].status for result in detail.current.results] == [
        DeliveryStatus.DELIVERED
    ] * 2
    assert [event_.action for event_ in detail.timeline] == [
        "study.received",
        "study.queued",
        "study.queued",
        "study.scored",
    ]


@pytest.mark.parametrize("state", sorted(set(State) - {State.SCORED}))
def test_the_detail_of_an_unscored_study_holds_no_number_for_it(store: Store, state: State) -> None:
    seed = Seed(name="a", state=state, regions=REGIONS, pictures=8)
    planted(store, seed)
    with store.transaction() as session:
        detail = study_detail(session, seed.key, longest_unread_s=NEVER_OVERDUE_S)
    assert (detail.row.rank, detail.row.assessment) == (None, None)
    for revision in detail.revisions:
        for score in revision.scores:
            assert (score.assessment, score.heads, score.regions, score.pictures) == (None, {}, (), 0)


def test_an_unknown_key_is_an_error_with_a_remedy(store: Store) -> None:
    with store.transaction() as session, pytest.raises(UnknownStudyError, match="vigil studies list"):
        study_detail(session, "a" * 20)


@pytest.mark.parametrize("state", sorted(State))
def test_only_the_score_that_counts_has_pictures(store: Store, state: State) -> None:
    seed = Seed(name="a", state=state, revisions=2, results={"sc": STATUSES})
    planted(store, seed)
    with store.transaction() as session:
        found = picture_of(session, seed.key)
    assert (found and found.path) == (f"{seed.key}/sc.dcm" if state is State.SCORED else None)


def test_a_deleted_study_has_no_pictures_until_it_is_scored_again(store: Store) -> None:
    """Also where the page's machine still holds a copy of them, or the study was sent again."""
    seed = Seed(name="a", pictures=3, results={"sc": STATUSES})
    planted(store, seed)
    found = []
    for after in (None, timedelta(hours=1), timedelta(hours=-1)):
        with store.transaction() as session:
            deleted_at = None if after is None else StudyRow.ended_at + after
            session.execute(update(StudyRow).values(deleted_at=deleted_at))
        with store.transaction() as session:
            has_pictures = study_detail(session, seed.key).has_pictures
            found.append((has_pictures, picture_of(session, seed.key) is not None))

    assert found == [(True, True), (False, False), (True, True)]


def test_an_ended_study_says_when(store: Store) -> None:
    for row in planted(store, *(Seed(name=state.value, state=state) for state in State)).rows:
        assert (row.ended_at is not None) == (row.state in ENDED)

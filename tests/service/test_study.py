from itertools import pairwise

import pytest

from service.study import ENDED, MOVES, Band, IllegalMoveError, State, band, move


def test_the_way_of_a_study_is_allowed() -> None:
    way = [State.RECEIVED, State.COMPLETE, State.QUEUED, State.SCORED]

    for current, to in pairwise(way):
        assert move(current, to) is to


def test_an_ended_study_moves_only_through_a_new_revision_or_a_retry() -> None:
    for state in ENDED:
        assert MOVES[state] <= {State.COMPLETE, State.QUEUED}


@pytest.mark.parametrize(
    ("current", "to"), [(State.RECEIVED, State.SCORED), (State.NOT_ASSESSABLE, State.SCORED)]
)
def test_a_score_never_appears_without_a_job(current: State, to: State) -> None:
    with pytest.raises(IllegalMoveError):
        move(current, to)


def test_what_could_not_be_judged_stands_above_what_was_ranked() -> None:
    assert band(State.FAILED) is band(State.NOT_ASSESSABLE) is Band.UNJUDGED
    uncalibrated = band(State.NOT_ASSESSABLE, has_raw_score=True)
    assert list(Band) == [Band.UNJUDGED, uncalibrated, band(State.SCORED), band(State.QUEUED)]
    assert uncalibrated is Band.UNCALIBRATED

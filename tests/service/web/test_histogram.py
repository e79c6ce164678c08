from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from service.web.histogram import BINS_BEYOND, BINS_WITHIN, edges_of, histogram

scores = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(sorted)


def counted(values: list[float], edges: list[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return counts


@given(scores, scores)
def test_every_study_is_counted_once_and_what_is_beyond_is_higher_than_every_reference(
    reference: list[float], today: list[float]
) -> None:
    drawn = histogram(reference, counted(today, edges_of(reference)))
    assert drawn.today == len(today)
    assert drawn.reference == len(reference)
    assert drawn.beyond == sum(score > reference[-1] for score in today)
    assert len(drawn.bins) == BINS_WITHIN + BINS_BEYOND + 2


def test_bins_are_named_from_low_to_high() -> None:
    drawn = histogram((0.0, 8.0), [0] * (BINS_WITHIN + BINS_BEYOND + 2))
    assert [item.label for item in drawn.bins[:2]] == ["below 0", "0 to 1"]
    assert drawn.bins[-1].label == "16 and above"
    assert [item.reference for item in drawn.bins if item.reference] == [1, 1]


def test_the_fullest_bin_is_the_tallest_and_nothing_is_flat() -> None:
    drawn = histogram((0.0, 1.0), [1, 3, *[0] * (BINS_WITHIN + BINS_BEYOND)])
    assert drawn.heights("today", 60)[:3] == [20, 60, 0]
    assert histogram((1.0,), [0] * (BINS_WITHIN + BINS_BEYOND + 2)).heights("today", 60)[0] == 0

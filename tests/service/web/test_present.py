from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.detail import Region
from service.store.rows import Assessment, Model, ResultStatus
from service.study import DeliveryStatus
from service.web import present
from tests.seeds import GROUP, MORNING


def assessed(p_value: float, n: int) -> Assessment:
    return Assessment(
        p_value=p_value,
        percentile=100 * p_value,
        study_score=1.0,
        model=Model(name="m", version="1", sha256="a" * 64),
        calibration_sha256="c" * 64,
        reference_group=GROUP,
        reference_n=n,
        run_at=MORNING,
    )


def region(slice_index: int, peak: float) -> Region:
    return Region(volume_mm3=1.0, peak=peak, mean=peak, centre_mm=(0, 0, 0), slice_index=slice_index)


@pytest.mark.parametrize(
    ("beyond", "said"),
    [
        (0, "None of the 6 reference studies (T1 brain, adults) is as unusual as this one."),
        (1, "1 of the 6 reference studies (T1 brain, adults) is at least as unusual as this one."),
        (3, "3 of the 6 reference studies (T1 brain, adults) are at least as unusual as this one."),
        (6, "All of the 6 reference studies (T1 brain, adults) are at least as unusual as this one."),
    ],
)
def test_a_percentile_is_told_as_a_count_of_reference_studies(beyond: int, said: str) -> None:
    assert present.standing(assessed((1 + beyond) / (6 + 1), 6)) == said


def test_a_p_value_that_is_no_count_is_told_as_a_share() -> None:
    told = present.standing(assessed(0.0123, 500))
    assert told == "As unusual as the most unusual 1.2 % of 500 reference studies (T1 brain, adults)."


def test_a_small_group_says_what_it_cannot_tell() -> None:
    assert "no study can fall below percentile 14.3" in (present.caution(assessed(0.5, 6)) or "")
    assert present.caution(assessed(0.5, 100)) is None


@pytest.mark.parametrize(
    ("value", "told"), [(100.0, "100.0"), (14.2857, "14.3"), (0.2469, "0.25"), (1.0, "1.0")]
)
def test_a_percentile_has_the_digits_it_deserves(value: float, told: str) -> None:
    assert present.percentile(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "now"), (0, "now"), (59, "59 s ago"), (60, "1 min ago"), (3600, "1 h ago"), (200_000, "2 d ago")],
)
def test_times_are_told_coarsely(seconds: int, told: str) -> None:
    assert present.ago(MORNING, MORNING + timedelta(seconds=seconds)) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 bytes"), (999, "999 bytes"), (52_000, "52.0 kB"), (8_400_000, "8.4 MB"), (3e12, "3000.0 GB")],
)
def test_sizes_are_told_in_units(count: int, told: str) -> None:
    assert present.size(count) == told


def test_one_failed_destination_is_what_the_tick_tells() -> None:
    results = [
        ResultStatus(kind="sr", destination="archive", status=DeliveryStatus.DELIVERED),
        ResultStatus(kind="sr", destination="viewer", status=DeliveryStatus.UNDELIVERED),
        ResultStatus(kind="seg", destination="archive", status=DeliveryStatus.STORED),
    ]
    seg, sr = present.ticks(results)
    assert (seg.kind, seg.mark, seg.status) == ("SEG", "✓", "stored")
    assert (sr.kind, sr.mark, sr.status) == ("SR", "✗", "undelivered")
    assert sr.label == "Structured report: delivered at archive, not delivered for viewer"


def test_a_result_without_a_destination_does_not_look_delivered() -> None:
    (tick,) = present.ticks([ResultStatus(kind="sc", destination=None, status=None)])
    assert (tick.mark, tick.status) == ("kept", "kept")


def test_the_strip_begins_with_the_strongest_regions() -> None:
    shown = present.strip(40, [region(30, 0.9), region(30, 0.8), region(4, 0.7)])
    assert [(item.frame, item.peak) for item in shown[:2]] == [(30, 0.9), (4, 0.7)]
    assert all(item.peak is None for item in shown[2:])


@given(st.integers(0, 500), st.lists(st.integers(0, 600), max_size=9))
def test_the_strip_shows_each_frame_once_and_no_frame_that_is_not_there(
    frames: int, peaks: list[int]
) -> None:
    shown = [item.frame for item in present.strip(frames, [region(index, 0.5) for index in peaks])]
    assert len(shown) == len(set(shown)) == min(frames, present.STRIP_LENGTH)
    assert all(0 <= frame < frames for frame in shown)

import pytest

from service.store.maps import Curve
from service.web.curve import HEIGHT, WIDTH, plot

BANDS = (0.3, 0.5, 0.7)


def curve(*peaks: float) -> Curve:
    return Curve(peaks=peaks, bands=BANDS)


def test_the_line_has_a_point_in_the_middle_of_each_slice() -> None:
    drawn = plot(curve(0.0, 1.0, 0.5, 0.25))

    assert [tuple(map(float, point.split(","))) for point in drawn.points.split()] == [
        (WIDTH / 8, HEIGHT),
        (3 * WIDTH / 8, 0.0),
        (5 * WIDTH / 8, HEIGHT / 2),
        (7 * WIDTH / 8, 0.75 * HEIGHT),
    ]
    assert [line.y for line in drawn.bands] == pytest.approx(
        [HEIGHT * (1 - band) for band in BANDS], abs=0.06
    )
    assert (drawn.highest, drawn.slices) == (1, 4)


def test_what_lies_outside_is_drawn_at_the_edge() -> None:
    assert plot(curve(-1.0, 2.0)).points == f"{WIDTH / 4},{HEIGHT} {3 * WIDTH / 4},0.0"


@pytest.mark.parametrize(
    ("peaks", "sentence"),
    [
        ((0.1, 0.3), "Highest in slice 2 of 2: 0.30. No slice rises above the lowest band (0.30)."),
        ((0.1, 0.4, 0.1), "Highest in slice 2 of 3: 0.40. 1 slice rises above the lowest band (0.30): 2."),
        (
            (0.4, 0.5, 0.9, 0.1, 0.6),
            "Highest in slice 3 of 5: 0.90. 4 slices rise above the lowest band (0.30): 1 to 3, 5.",
        ),
    ],
)
def test_the_same_is_said_in_words(peaks: tuple[float, ...], sentence: str) -> None:
    assert plot(curve(*peaks)).sentence == sentence


def test_a_map_of_many_runs_makes_no_endless_sentence() -> None:
    assert plot(curve(*(0.9, 0.1) * 20)).sentence.endswith(": 1, 3, 5, 7, 9, 11 and 14 more runs.")

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import kstest

from models import drift
from models.drift import ALPHA, BETS, WINDOW, GroupWatch, Watch, first_capital, online_p, wager


def scores(seed: int, count: int, shift: float = 0.0) -> list[float]:
    drawn: NDArray[np.float64] = np.random.default_rng(seed).gamma(2.0, size=count) + shift
    return drawn.tolist()


@pytest.mark.parametrize("bet", range(len(BETS)))
def test_every_bet_is_fair(bet: int) -> None:
    """A density on [0, 1]: what it wins somewhere it loses elsewhere. Clipping may only take away."""
    capital = np.zeros(len(BETS))
    capital[bet] = 1.0

    mean, _ = quad(lambda p: float(wager(capital, p).sum()), 0, 1, limit=400)

    assert mean == pytest.approx(1, abs=2e-3)
    assert mean <= 1 + 1e-6


def test_nothing_can_be_won_without_end_by_one_study() -> None:
    for p in (0.0, 1.0):
        assert np.isfinite(wager(first_capital(), p)).all()


def test_capital_starts_at_one_whatever_the_shape() -> None:
    assert first_capital((4, 3)).sum(axis=-1) == pytest.approx(np.ones((4, 3)))


def test_online_ranks_are_uniform_and_ties_are_broken_by_chance() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, size=3000).astype(float)  # most of them tie
    before: list[float] = []
    p_values = []
    for value in values:
        p_values.append(online_p(before, float(value), 1 - rng.random()))
        before = sorted([*before, float(value)])

    assert kstest(p_values, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(p_values[:-1], p_values[1:])[0, 1]) < 0.06


@pytest.mark.parametrize(("value", "p"), [(5.0, 0.25 * 0.5), (0.0, (3 + 0.5) / 4), (2.0, (1 + 0.5 * 2) / 4)])
def test_a_rank_counts_what_is_higher_and_a_share_of_what_is_equal(value: float, p: float) -> None:
    assert online_p([1.0, 2.0, 3.0], value, 0.5) == pytest.approx(p)


def test_without_drift_alarms_are_rarer_than_alpha() -> None:
    """Ville: of 400 capitals over 1500 studies each, at most a share alpha ever reaches 1 / alpha."""
    rng = np.random.default_rng(2)
    capital, alpha = first_capital((400,)), 0.1
    highest = np.ones(400)
    for _ in range(1500):
        capital = wager(capital, rng.random(400))
        highest = np.maximum(highest, capital.sum(axis=-1))

    assert (highest >= 1 / alpha).mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 400)


@pytest.mark.parametrize(("shift", "soonest"), [(1.5, 60), (-1.5, 60), (1.0, 200), (-1.0, 200)])
def test_a_shift_is_seen_within_two_hundred_studies_though_it_comes_late(shift: float, soonest: int) -> None:
    watch = Watch.begin(scores(3, 200)).look(scores(4, 1000))
    assert watch.alarm_at is None

    after = watch.look(scores(5, 200, shift))

    assert after.alarm_at is not None
    assert 1000 < after.alarm_at <= 1000 + soonest
    assert after.highest >= 1 / ALPHA


def test_a_narrower_spread_is_drift_too() -> None:
    rng = np.random.default_rng(6)
    watch = Watch.begin(rng.normal(size=200).tolist()).look(rng.normal(size=300).tolist())

    after = watch.look((0.5 * rng.normal(size=200)).tolist())

    assert watch.alarm_at is None
    assert after.alarm_at is not None


def test_an_alarm_stays_until_the_watch_begins_anew() -> None:
    watch = Watch.begin(scores(7, 200)).look(scores(8, 100, 2.0))
    at = watch.alarm_at

    assert at is not None
    assert watch.look(scores(9, 300)).alarm_at == at


def test_a_window_of_studies_unlike_the_reference_raises_an_alarm() -> None:
    """With so small an alpha the martingale is silent, and the window speaks."""
    watch = Watch.begin(scores(10, 300), alpha=1e-30).look(scores(11, WINDOW, 1.0))

    assert (watch.alarm, watch.alarm_at) == ("window", WINDOW)
    assert watch.windows == 1
    assert watch.least_window_p < drift.WINDOW_ALPHA


def test_the_state_is_stored_between_studies_and_nothing_is_lost() -> None:
    studies = scores(12, 150)
    at_once = Watch.begin(scores(13, 60)).look(studies)

    one_by_one = Watch.begin(scores(13, 60))
    for study in studies:
        one_by_one = Watch.model_validate_json(one_by_one.look([study]).model_dump_json())

    assert one_by_one.model_dump(exclude={"capital", "highest"}) == at_once.model_dump(
        exclude={"capital", "highest"}
    )
    assert one_by_one.capital == pytest.approx(at_once.capital)
    assert one_by_one.highest == pytest.approx(at_once.highest)


def test_the_state_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MOST_WATCHED", 300)

    watch = Watch.begin(scores(14, 100)).look(scores(15, 1000))

    assert len(watch.watched) < 300
    assert watch.seen == 1000
    assert watch.windows == 10
    assert watch.alarm_at is None


def test_a_group_shares_its_alpha_out_and_names_what_moved() -> None:
    reference = {"score": scores(16, 200), "sharpness": scores(17, 200)}
    group = GroupWatch.begin("MR, BRAIN, T1", "d" * 64, reference)
    assert {watch.alpha for watch in group.watches.values()} == {ALPHA / 2}

    for score, sharpness in zip(scores(18, 60), scores(19, 60, 3.0), strict=True):
        group = group.look({"score": score, "sharpness": sharpness, "unknown": 1.0})

    assert group.alarms == ("sharpness",)
    assert GroupWatch.model_validate_json(group.model_dump_json()) == group


def test_a_number_a_study_lacks_is_passed_over() -> None:
    group = GroupWatch.begin("MR", "d" * 64, {"score": [1.0], "noise": [1.0]}).look({"score": 2.0})

    assert (group.watches["score"].seen, group.watches["noise"].seen) == (1, 0)


def test_without_a_reference_the_studies_before_are_one() -> None:
    watch = Watch.begin([]).look(scores(20, 400))
    assert watch.alarm_at is None

    after = watch.look(scores(21, 150, 1.5))

    assert after.alarm_at is not None
    assert after.alarm_at <= 400 + 60


def test_without_a_reference_alarms_are_rarer_than_alpha() -> None:
    alarms = [Watch.begin([], alpha=0.1).look(scores(seed, 300)).alarm_at is not None for seed in range(60)]

    assert np.mean(alarms) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 60)


def test_a_window_is_compared_with_the_first_where_the_reference_is_small() -> None:
    watch = Watch.begin(scores(22, 5), alpha=1e-30).look(scores(23, WINDOW))
    assert watch.least_window_p == 1

    after = watch.look(scores(24, WINDOW, 1.5))

    assert (after.alarm, after.alarm_at, after.changed_at) == ("window", 2 * WINDOW, WINDOW + 1)


def test_abnormal_studies_are_evidence_against_a_reference_of_normals_alone() -> None:
    """One study in five is far out, as always. A reference without such studies takes it for drift."""
    drawn = np.array(scores(25, 600))
    drawn[np.random.default_rng(26).random(600) < 0.2] += 8

    assert Watch.begin(scores(27, 300)).look(drawn.tolist()).alarm_at is not None
    assert Watch.begin([]).look(drawn.tolist()).alarm_at is None


@pytest.mark.parametrize("reference", [[], scores(28, 200)])
def test_the_change_is_dated_back_from_the_alarm(reference: list[float]) -> None:
    watch = Watch.begin(reference).look(scores(29, 300)).look(scores(30, 200, 1.5))

    assert watch.alarm_at is not None
    assert watch.changed_at is not None
    assert abs(watch.changed_at - 301) <= 20
    assert watch.changed_at < watch.alarm_at


def test_a_group_says_how_near_an_alarm_is_and_how_long_the_change_has_lasted() -> None:
    reference = {"score": [], "noise": scores(31, 200)}
    group = GroupWatch.begin("MR", "d" * 64, reference)
    for value in scores(32, 50):
        group = group.look({"score": value, "noise": value})
    assert 0 < group.evidence < 1
    assert group.studies_since_change == 0

    for value in scores(33, 30, 4.0):
        group = group.look({"score": 1.0, "noise": value})

    assert "noise" in group.alarms
    assert group.evidence >= 1
    assert 1 <= group.studies_since_change <= 30

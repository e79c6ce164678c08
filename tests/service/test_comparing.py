import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, spearmanr

from service.comparing import compare, kappa
from service.store.shadows import Pair, Side
from service.study import State


def side(p_value: float | None, score: float = 1.0, reason: str | None = None) -> Side:
    if p_value is None:
        return Side(state=State.NOT_ASSESSABLE, reason=reason, study_score=None, p_value=None, seconds=None)
    return Side(state=State.SCORED, reason=None, study_score=score, p_value=p_value, seconds=score)


def pair(name: str, served: Side, shadow: Side) -> Pair:
    return Pair(key=name, served=served, shadow=shadow)


def test_kappa_is_that_of_the_table_and_chance_alone_is_none() -> None:
    """By hand: agreed 0.7, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5."""
    assert kappa(20, 5, 10, 15).value == pytest.approx((0.7 - 0.5) / 0.5)
    assert kappa(7, 0, 0, 0).value is None
    assert kappa(0, 0, 0, 0).value is None
    assert kappa(5, 0, 0, 5).value == 1.0


def test_the_interval_of_kappa_holds_its_true_value_about_as_often_as_it_says() -> None:
    shares = np.array([0.3, 0.1, 0.15, 0.45])
    true = kappa(*(int(1000 * share) for share in shares)).value
    rng = np.random.default_rng(1)
    held = 0
    for table in rng.multinomial(200, shares, size=1000):
        found = kappa(*(int(count) for count in table))
        held += found.low <= true <= found.high  # type: ignore[operator]
    assert 0.93 < held / 1000 < 0.97


def test_ranks_follow_the_list_and_agree_as_scipy_counts() -> None:
    rng = np.random.default_rng(0)
    p = rng.permutation(40) / 40 + 0.01
    q = np.clip(p + rng.normal(0, 0.2, 40), 0.001, 1)
    found = compare([pair(str(i), side(a), side(b)) for i, (a, b) in enumerate(zip(p, q, strict=True))])

    assert found.spearman.value == pytest.approx(spearmanr(p, q).statistic)
    assert found.kendall.value == pytest.approx(kendalltau(p, q).statistic)
    for figure in (found.spearman, found.kendall):
        assert figure.low < figure.value < figure.high  # type: ignore[operator]
    assert abs(found.moves[0].served_rank - found.moves[0].shadow_rank) == max(
        abs(a - b) for a, b in zip(rankdata(p), rankdata(q), strict=True)
    )


def test_equal_percentiles_are_ordered_by_raw_score_as_on_the_list() -> None:
    found = compare(
        [
            pair("a", side(0.1, 3.0), side(0.1, 1.0)),
            pair("b", side(0.1, 2.0), side(0.1, 2.0)),
            pair("c", side(0.1, 1.0), side(0.1, 3.0)),
        ]
    )
    assert found.spearman.value == pytest.approx(-1.0)
    assert (found.spearman.low, found.kendall.low) == (None, None)  # too few for an interval
    assert {move.key for move in found.moves} == {"a", "c"}


def test_sides_reasons_and_seconds_are_counted() -> None:
    found = compare(
        [
            pair("a", side(0.05, 1.0), side(0.04, 3.0)),
            pair("b", side(0.06, 2.0), side(0.5, 5.0)),
            pair("c", side(0.01), side(None, reason="localiser")),
            pair("d", side(None, reason="uncalibrated"), side(0.2)),
            pair("e", side(None, reason="lossy"), side(None, reason="lossy")),
        ]
    )
    assert (found.studies, found.scored, found.both_declined) == (5, 2, 1)
    five, ten = found.sides
    assert (five.both, five.served_only, five.shadow_only, five.neither) == (1, 0, 0, 1)
    assert (ten.both, ten.served_only, ten.neither, ten.same.share) == (1, 1, 0, 0.5)
    assert found.only_served == {"uncalibrated": 1}
    assert found.only_shadow == {"localiser": 1}
    assert (found.served_seconds.studies, found.shadow_seconds.median) == (3, 3.0)


def test_nothing_compared_says_nothing() -> None:
    found = compare([])
    assert (found.spearman.value, found.kendall.value, found.moves) == (None, None, ())
    assert (found.sides[0].same.share, found.sides[0].kappa.value) == (None, None)
    assert found.served_seconds.median is None

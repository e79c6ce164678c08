from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.signals import Signal, SignalKind
from service.completeness import OPEN_PERIODS, Evidence, Trigger, decide

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HELD = {"a": "s1", "b": "s1", "c": "s2"}


def evidence(
    *signals: Signal,
    silent_s: float = 1.0,
    is_sender_open: bool = False,
    archive: Mapping[str, int] | None = None,
) -> Evidence:
    return Evidence(
        now=NOON + timedelta(seconds=silent_s),
        last_instance_at=NOON,
        quiet_s=60.0,
        longest_wait_s=900.0,
        is_sender_open=is_sender_open,
        held=HELD,
        signals=signals,
        archive=archive,
    )


def signal(kind: SignalKind, *names: str, is_final: bool = True) -> Signal:
    return Signal(kind=kind, is_final=is_final, instances=frozenset(names))


@pytest.mark.parametrize(("silent_s", "trigger"), [(1.0, None), (59.0, None), (60.0, Trigger.QUIET_PERIOD)])
def test_silence_completes_a_study_of_which_nobody_says_anything(
    silent_s: float, trigger: Trigger | None
) -> None:
    assert decide(evidence(silent_s=silent_s)) is trigger


@pytest.mark.parametrize(
    ("kind", "trigger"),
    [
        (SignalKind.PERFORMED_STEP, Trigger.PERFORMED_STEP),
        (SignalKind.AVAILABILITY, Trigger.AVAILABILITY),
        (SignalKind.COMMITMENT_REQUEST, Trigger.COMMITMENT_REQUEST),
    ],
)
def test_an_exact_list_completes_a_study_at_once(kind: SignalKind, trigger: Trigger) -> None:
    assert decide(evidence(signal(kind, "a", "b", "c"))) is trigger
    assert decide(evidence(signal(kind, "a"), signal(kind, "b", "c"))) is trigger


@pytest.mark.parametrize(
    "signals",
    [
        [signal(SignalKind.PERFORMED_STEP, "a", "b")],  # one more is here than it lists
        [signal(SignalKind.PERFORMED_STEP, "a", "b", "c", "d")],
        [signal(SignalKind.PERFORMED_STEP, "a", "b", "c"), signal(SignalKind.PERFORMED_STEP, is_final=False)],
        [signal(SignalKind.PERFORMED_STEP)],  # discontinued: it promises nothing
    ],
)
def test_anything_less_than_an_exact_list_completes_nothing_early(signals: list[Signal]) -> None:
    assert decide(evidence(*signals)) is None


@pytest.mark.parametrize(
    "lacking",
    [
        evidence(signal(SignalKind.PERFORMED_STEP, "a", "b", "c", "d")),
        evidence(signal(SignalKind.PERFORMED_STEP, is_final=False)),
        evidence(signal(SignalKind.AVAILABILITY, "d", is_final=False)),
        evidence(archive={"s1": 3, "s2": 1}),
    ],
)
def test_what_is_known_to_be_missing_is_waited_for_and_not_for_ever(lacking: Evidence) -> None:
    quiet = replace(lacking, now=NOON + timedelta(seconds=61))
    waited = replace(lacking, now=NOON + timedelta(seconds=901))

    assert decide(quiet) is None
    assert decide(waited) is Trigger.LONGEST_WAIT


def test_a_discontinued_step_holds_nobody() -> None:
    assert decide(evidence(signal(SignalKind.PERFORMED_STEP), silent_s=60.0)) is Trigger.QUIET_PERIOD


def test_an_open_association_of_the_sender_extends_the_quiet_period_by_a_bounded_time() -> None:
    limit = 60.0 * (1 + OPEN_PERIODS)

    assert decide(evidence(silent_s=61.0, is_sender_open=True)) is None
    assert decide(evidence(silent_s=limit - 1, is_sender_open=True)) is None
    assert decide(evidence(silent_s=limit, is_sender_open=True)) is Trigger.LONGEST_WAIT


def test_an_archive_that_counts_what_is_here_completes_the_study() -> None:
    assert decide(evidence(archive={"s1": 2, "s2": 1})) is Trigger.ARCHIVE_COUNT


@pytest.mark.parametrize("counted", [{}, {"s1": 2}, {"s1": 1, "s2": 1}, {"s1": 2, "s2": 1, "s3": 1}])
def test_an_archive_that_counts_something_else_completes_nothing(counted: dict[str, int]) -> None:
    assert decide(evidence(archive=counted)) is None


def test_a_series_that_only_the_archive_has_holds_nobody() -> None:
    """Nobody says that it is meant for us."""
    assert decide(evidence(archive={"s1": 2, "s3": 9}, silent_s=60.0)) is Trigger.QUIET_PERIOD


def test_an_instance_from_the_future_is_not_waited_for() -> None:
    """The clock was wrong when it came, and has been put right since."""
    assert decide(evidence(silent_s=-30.0)) is None  # two clocks that differ a little
    assert decide(evidence(silent_s=-86_400.0)) is Trigger.QUIET_PERIOD
    assert decide(evidence(silent_s=-86_400.0, is_sender_open=True)) is Trigger.LONGEST_WAIT

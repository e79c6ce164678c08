"""When is a study complete? Every sign there is, and which of them decided.

No single one is reliable: senders split a study over associations, modalities forget to end a step, archives
count what nobody sends to us. So whoever states an exact list may complete a study early, whoever states
that something is missing may hold it for a while, and silence always ends it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicom_node.signals import Signal, SignalKind, missing

# A router may keep an association open all day: it holds a quiet study for so many more quiet periods.
OPEN_PERIODS = 3


class Trigger(StrEnum):
    """What completed a study; recorded with its revision."""

    QUIET_PERIOD = "quiet_period"  # no instance for the sender's quiet period, and nothing known missing
    LONGEST_WAIT = "longest_wait"  # something announced is missing, or the sender is open, for too long
    PERFORMED_STEP = "mpps"  # the modality ended its steps, and exactly what they list is here
    AVAILABILITY = "availability"  # an archive has all of it, and exactly what it lists is here
    COMMITMENT_REQUEST = "commitment_request"  # the modality asked for commitment to exactly what is here
    COHORT = "cohort"  # whoever screens a cohort has copied all of it, and exactly so many are here
    ARCHIVE_COUNT = "archive_count"  # an archive holds of every series exactly as many as are here


_OF_LISTS = {
    SignalKind.PERFORMED_STEP: Trigger.PERFORMED_STEP,
    SignalKind.AVAILABILITY: Trigger.AVAILABILITY,
    SignalKind.COMMITMENT_REQUEST: Trigger.COMMITMENT_REQUEST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a study that waits.

    Attributes
    ----------
    now, last_instance_at : datetime
    quiet_s : float
        Quiet period of its senders.
    longest_wait_s : float
        How long what is announced is waited for.
    is_sender_open : bool
        A sender of the study has an association open.
    held : mapping of str to str
        File name of each instance that is here to the pseudonym of its series.
    signals : sequence of Signal
    expected : int, optional
        Instances of a study that is copied for a cohort; None: it is not, or not all of it.
    archive : mapping of str to int, optional
        Instances an archive holds, by the series' pseudonym, our own results left out; None: none has said.
    """

    now: datetime
    last_instance_at: datetime
    quiet_s: float
    longest_wait_s: float
    is_sender_open: bool
    held: Mapping[str, str]
    signals: Sequence[Signal]
    archive: Mapping[str, int] | None
    expected: int | None = None

    @property
    def silent_s(self) -> float:
        """Seconds since the last instance."""
        seconds = (self.now - self.last_instance_at).total_seconds()
        # The clock was put back since: nobody can say when it came, and nothing may wait for that time.
        return seconds if seconds > -self.longest_wait_s else math.inf


def decide(evidence: Evidence) -> Trigger | None:
    """Return what completes the study now; None while it must wait."""
    by_list = _by_list(evidence)
    if by_list is not None:
        return by_list
    if evidence.expected is not None and evidence.expected == len(evidence.held):
        return Trigger.COHORT
    if evidence.archive and evidence.archive == _counts(evidence.held):
        return Trigger.ARCHIVE_COUNT
    if evidence.silent_s < evidence.quiet_s:
        return None
    is_open = evidence.is_sender_open and evidence.silent_s < evidence.quiet_s * (1 + OPEN_PERIODS)
    lacks = _lacks(evidence)
    if is_open or (lacks and evidence.silent_s < evidence.longest_wait_s):
        return None
    return Trigger.LONGEST_WAIT if lacks or evidence.is_sender_open else Trigger.QUIET_PERIOD


def _by_list(evidence: Evidence) -> Trigger | None:
    present = frozenset(evidence.held)
    for kind, trigger in _OF_LISTS.items():
        signals = [signal for signal in evidence.signals if signal.kind is kind]
        listed = frozenset().union(*(signal.instances for signal in signals))
        # Exactly: of an instance that no list names nobody has said whether more will follow.
        if listed and listed == present and all(signal.is_final for signal in signals):
            return trigger
    return None


def _lacks(evidence: Evidence) -> bool:
    """Whether somebody says that there is more to come."""
    steps = [signal for signal in evidence.signals if signal.kind is SignalKind.PERFORMED_STEP]
    counts = _counts(evidence.held)
    # Of series we have nothing of, nobody says that they are meant for us.
    archive_has_more = any(
        counts.get(series, count) < count for series, count in (evidence.archive or {}).items()
    )
    return (
        any(not step.is_final for step in steps)
        or missing(evidence.signals, frozenset(evidence.held)) > 0
        or archive_has_more
    )


def _counts(held: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for series in held.values():
        counts[series] = counts.get(series, 0) + 1
    return counts

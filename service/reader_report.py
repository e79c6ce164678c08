"""What readers' verdicts say of the scores: predictive value, sensitivity among the read, time to read.

Every number stands with how many studies it rests on and a 95 % interval. Nothing counted is no number: an
empty row has no share, and never 100 per cent.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from sqlalchemy.orm import Session

from models.evaluation.metrics import wilson_interval
from service import lifetimes
from service.lifetimes import Median
from service.store import verdicts
from service.store.verdicts import Judged, Waited
from service.study import Conspicuity, State, Verdict

USUAL_DAYS: Final = 365  # looked back where nobody says how far
SMALL: Final = 20  # studies below which a share is marked: its interval is most of the scale
EDGES: Final = (0.0, 1.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # of the bands of percentiles; the upper edge belongs
CUTS: Final = EDGES[1:-1]
DEFINITIONS: Final = {
    "verdict": "One study counts once for each model that scored it, with what was said of it last. "
    "Where readers said different things, it is counted as disputed as well.",
    "predictive_value": "Share of confirmed findings among the judged studies of a row. Every other verdict "
    "counts against it, the wrong study too; other conditions are added in the second share.",
    "sensitivity": "Among studies with a percentile and a reader's verdict: share of the confirmed findings "
    "that stood at or below the percentile. Studies that nobody judged are not in it. Readers see the most "
    "unusual first and judge what they see, so it is biased upwards (verification bias): it bounds nothing "
    "about what nobody has read.",
    "time_to_read": "Hours from the first image to the first reader who marked the study as seen. A study "
    "that nobody has seen counts as waiting until now, not as read (Kaplan and Meier).",
    "interval": "95 %: Wilson for shares; log-log by Brookmeyer and Crowley for medians.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Some of a number of studies.

    Attributes
    ----------
    found, n : int
    share, low, high : float or None
        0 to 1; None where n is 0.
    is_small : bool
        n is below `SMALL`.
    """

    found: int
    n: int
    share: float | None
    low: float | None
    high: float | None
    is_small: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Verdicts on the studies of one row.

    Attributes
    ----------
    name : str
    verdicts : dict of Verdict to int
        Every verdict is named.
    findings : Share
        Confirmed findings.
    conditions : Share
        Confirmed findings and other conditions.
    grades : dict of str to Share
        Confirmed findings of each conspicuity, and those that nobody graded.
    """

    name: str
    verdicts: dict[Verdict, int]
    findings: Share
    conditions: Share
    grades: dict[str, Share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Confirmed findings of one conspicuity at or below each percentile of `CUTS`.

    Attributes
    ----------
    name : str
    cuts : tuple of (float, Share)
    """

    name: str
    cuts: tuple[tuple[float, Share], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How soon the studies of one row were seen.

    Attributes
    ----------
    name : str
    studies, seen : int
    hours : Median
        To the first reader.
    longest_unseen_h : float or None
        Of those that nobody has seen.
    """

    name: str
    studies: int
    seen: int
    hours: Median
    longest_unseen_h: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderReport:
    """What `vigil feedback report` answers.

    Attributes
    ----------
    since, until : datetime
        Studies received between them.
    model : str or None
        Hash of the only model looked at.
    studies, seen, judged, disputed, not_assessable, failed : int
    without_percentile : Value
        Verdicts on studies that had no percentile; in none of the tables below.
    overall : Value
    at_or_below, by_band, by_model, by_group : tuple of Value
    sensitivity : tuple of Sensitivity
    time_to_read : tuple of Reading
    definitions : dict of str to str
        What each of them is, and is not.
    """

    since: datetime
    until: datetime
    model: str | None
    studies: int
    seen: int
    judged: int
    disputed: int
    not_assessable: int
    failed: int
    without_percentile: Value
    overall: Value
    at_or_below: tuple[Value, ...]
    by_band: tuple[Value, ...]
    by_model: tuple[Value, ...]
    by_group: tuple[Value, ...]
    sensitivity: tuple[Sensitivity, ...]
    time_to_read: tuple[Reading, ...]
    definitions: dict[str, str]


def read_report(
    session: Session, *, now: datetime, since: datetime | None = None, model: str | None = None
) -> ReaderReport:
    """Count what readers said of the studies received since a time.

    Parameters
    ----------
    now : datetime
        Aware.
    since : datetime, optional
        Aware; `USUAL_DAYS` ago unless given.
    model : str, optional
        Hash of the only model to look at.
    """
    begin = since or now - timedelta(days=USUAL_DAYS)
    return build_report(
        verdicts.judged(session, since=begin, model=model),
        verdicts.waited(session, since=begin, now=now, model=model),
        since=begin,
        until=now,
        model=model,
    )


def build_report(
    judged: Sequence[Judged],
    waited: Sequence[Waited],
    *,
    since: datetime,
    until: datetime,
    model: str | None = None,
) -> ReaderReport:
    """Count some studies; arguments as `ReaderReport` has them."""
    with_percentile = [one for one in judged if one.percentile is not None]
    return ReaderReport(
        since=since,
        until=until,
        model=model,
        studies=len(waited),
        seen=sum(one.is_seen for one in waited),
        judged=len(judged),
        disputed=sum(one.is_disputed for one in judged),
        not_assessable=sum(one.state is State.NOT_ASSESSABLE for one in waited),
        failed=sum(one.state is State.FAILED for one in waited),
        without_percentile=_value("no percentile", [one for one in judged if one.percentile is None]),
        overall=_value("every percentile", with_percentile),
        at_or_below=tuple(
            _value(f"at or below {cut:g}", [one for one in with_percentile if _of(one) <= cut])
            for cut in CUTS
        ),
        by_band=tuple(
            _value(name, [one for one in with_percentile if low < _of(one) <= high])
            for name, low, high in _bands()
        ),
        by_model=_grouped(with_percentile, lambda one: one.model),
        by_group=_grouped(with_percentile, lambda one: one.group),
        sensitivity=_sensitivities(with_percentile),
        time_to_read=tuple(_readings(waited)),
        definitions=DEFINITIONS,
    )


def share_of(found: int, n: int) -> Share:
    """Some of a number of studies, with its interval."""
    low, high = wilson_interval(found, n) if n else (None, None)
    return Share(found=found, n=n, share=found / n if n else None, low=low, high=high, is_small=n < SMALL)


def _of(one: Judged) -> float:
    """Percentile of a study that has one."""
    return 0.0 if one.percentile is None else one.percentile


def _bands() -> list[tuple[str, float, float]]:
    """Bands of percentiles: name, what is above it, what still belongs to it."""
    return [(f"{low:g} to {high:g}", low, high) for low, high in pairwise(EDGES)]


def _value(name: str, judged: Sequence[Judged]) -> Value:
    counts = Counter(one.verdict for one in judged)
    found = counts[Verdict.CONFIRMED_FINDING]
    return Value(
        name=name,
        verdicts={verdict: counts[verdict] for verdict in Verdict},
        findings=share_of(found, len(judged)),
        conditions=share_of(found + counts[Verdict.OTHER_CONDITION], len(judged)),
        grades={name: share_of(len(mine), len(judged)) for name, mine in _graded(judged).items()},
    )


def _grouped(judged: Sequence[Judged], name_of: Callable[[Judged], str]) -> tuple[Value, ...]:
    """One row for each name, most studies first."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(name_of(one), []).append(one)
    rows = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(_value(name or "not named", mine) for name, mine in rows)


def _sensitivities(judged: Sequence[Judged]) -> tuple[Sensitivity, ...]:
    findings = [one for one in judged if one.verdict is Verdict.CONFIRMED_FINDING]
    return tuple(
        Sensitivity(
            name=name,
            cuts=tuple((cut, share_of(sum(_of(one) <= cut for one in mine), len(mine))) for cut in CUTS),
        )
        for name, mine in {"every finding": findings, **_graded(findings)}.items()
    )


def _graded(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Confirmed findings by how easily they are seen."""
    findings = [one for one in judged if one.verdict is Verdict.CONFIRMED_FINDING]
    found = {grade.name: [one for one in findings if one.conspicuity is grade] for grade in Conspicuity}
    return {**found, "not graded": [one for one in findings if one.conspicuity is None]}


def _readings(waited: Sequence[Waited]) -> Iterable[Reading]:
    for name, low, high in _bands():
        yield _reading(
            name, [one for one in waited if one.percentile is not None and low < one.percentile <= high]
        )
    for state, name in ((State.NOT_ASSESSABLE, "not assessable"), (State.FAILED, "failed")):
        yield _reading(name, [one for one in waited if one.state is state])
    yield _reading("every study", waited)


def _reading(name: str, waited: Sequence[Waited]) -> Reading:
    unseen = [one.hours for one in waited if not one.is_seen]
    return Reading(
        name=name,
        studies=len(waited),
        seen=len(waited) - len(unseen),
        hours=lifetimes.median([one.hours for one in waited], [one.is_seen for one in waited]),
        longest_unseen_h=max(unseen, default=None),
    )

"""Three orders on the same simulated studies, again and again: time to read, with intervals."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from service.simulation.reading_room import Day, first_come, oracle, vigil, waits
from service.simulation.studies import Department, Scores
from service.study import Priority

WARM_UP = 0.1  # Of the time: the list begins empty, which no list is.
CONFIDENCE = 0.95
KINDS = ("abnormal", "normal", "stat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A mean over runs with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToRead:
    """Hours from arrival to the start of reading, of one kind of studies under one order.

    Attributes
    ----------
    order, kind : str
    studies : int
        Over all runs.
    mean_h, median_h, late_h : Figure
        Mean, median and 95th percentile of a run, averaged over runs.
    worst_h : float
        The longest wait of any study of any run.
    saved_h : Figure
        Mean hours sooner than under first-come, on the same studies; negative: later.
    """

    order: str
    kind: str
    studies: int
    mean_h: Figure
    median_h: Figure
    late_h: Figure
    worst_h: float
    saved_h: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `vigil simulate` answers.

    Attributes
    ----------
    department : Department
    scores : str
        Where the scores come from.
    auroc, load : float
    days : float
        Of each run.
    runs, seed : int
    rows : tuple of TimeToRead
    """

    department: Department
    scores: str
    auroc: float
    load: float
    days: float
    runs: int
    seed: int
    rows: tuple[TimeToRead, ...]

    def as_dict(self) -> dict[str, Any]:
        """For one JSON document."""
        return asdict(self)


def compare(department: Department, scores: Scores, *, days: float, runs: int, seed: int) -> Comparison:
    """Play the same days under first-come, the severity oracle and Vigil's order.

    Parameters
    ----------
    department : Department
    scores : Scores
    days : float
        Of each run; the first tenth warms up and is not counted.
    runs : int
        At least two, so that there is an interval.
    seed : int
    """
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for number in range(runs):
        day = department.draw(days, scores, np.random.default_rng([seed, number]))
        for order in (first_come(day), oracle(day), vigil(day, department.longest_h)):
            waited = waits(day, order, department.readers)
            for kind, chosen in _kinds(day, days).items():
                found.setdefault((order.name, kind), []).append(waited[chosen])
    rows = [
        _row(order, kind, mine, found["first-come", kind])
        for (order, kind), mine in found.items()
        if all(one.size for one in mine)
    ]
    return Comparison(
        department=department,
        scores=scores.source,
        auroc=scores.auroc,
        load=department.load,
        days=days,
        runs=runs,
        seed=seed,
        rows=tuple(sorted(rows, key=lambda row: KINDS.index(row.kind))),
    )


def _kinds(day: Day, days: float) -> dict[str, NDArray[np.bool_]]:
    counted = day.arrival_h >= WARM_UP * days * 24
    is_stat = day.priority >= Priority.STAT
    return {
        "abnormal": counted & day.is_abnormal & ~is_stat,
        "normal": counted & ~day.is_abnormal & ~is_stat,
        "stat": counted & is_stat,
    }


def _row(
    order: str, kind: str, mine: list[NDArray[np.float64]], plain: list[NDArray[np.float64]]
) -> TimeToRead:
    saved = [float((before - after).mean()) for before, after in zip(plain, mine, strict=True)]
    return TimeToRead(
        order=order,
        kind=kind,
        studies=sum(one.size for one in mine),
        mean_h=_figure([float(one.mean()) for one in mine]),
        median_h=_figure([float(np.median(one)) for one in mine]),
        late_h=_figure([float(np.percentile(one, 95)) for one in mine]),
        worst_h=max(float(one.max()) for one in mine),
        saved_h=_figure(saved),
    )


def _figure(values: list[float]) -> Figure:
    """Mean of independent runs with Student's interval."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Figure(value=mean, low=mean - half, high=mean + half)

"""Simulated studies: when they come, how long they take, and how a model scores them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from models.calibration import conformal_p_values
from service.errors import TriageError
from service.simulation.reading_room import Day
from service.study import Priority

HOURS_A_DAY = 24.0
GRID = 2000  # Scores that stand for a distribution given by a formula.


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a model says of normal and of abnormal studies; studies are drawn from these.

    Attributes
    ----------
    source : str
        Where they come from.
    normal, abnormal : float64
        Scores, higher is more abnormal.
    """

    source: str
    normal: NDArray[np.float64]
    abnormal: NDArray[np.float64]

    @classmethod
    def of_auroc(cls, value: float) -> Self:
        """Two normal distributions of the same width with this AUROC.

        Raises
        ------
        TriageError
            If it is not between 0.5 and 1.
        """
        if not 0.5 <= value < 1:  # noqa: PLR2004 - 0.5 is no order at all
            raise TriageError("--auroc takes a number from 0.5 to below 1.")
        grid = norm.ppf((np.arange(GRID) + 0.5) / GRID)
        shift = np.sqrt(2) * norm.ppf(value)
        return cls(source=f"two normal distributions, AUROC {value:g}", normal=grid, abnormal=grid + shift)

    @classmethod
    def of_evaluation(cls, path: Path, split: str | None = None, finding: str | None = None) -> Self:
        """Scores that `vigil models evaluate --json` wrote.

        Parameters
        ----------
        path : Path
        split, finding : str, optional
            Part of the data, and what the abnormal studies have; else the first that has both kinds.

        Raises
        ------
        TriageError
            If the file holds no scores of both kinds.
        """
        try:
            content = json.loads(path.read_bytes())
            for table in content["scores"]:
                if split not in (None, table["split"]) or finding not in (None, table["finding"]):
                    continue
                values = np.asarray(table["scores"], dtype=np.float64)
                labels = np.asarray(table["labels"], dtype=np.bool_)
                if labels.any() and not labels.all():
                    words = (content["data"], table["artefact"], table["split"], table["finding"])
                    source = ", ".join(str(word) for word in words if word)
                    return cls(source=source, normal=values[~labels], abnormal=values[labels])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise TriageError(
                f"{path.name} cannot be read. Give a file that `vigil models evaluate --json` wrote."
            ) from error
        raise TriageError(
            f"{path.name} has no scores of normal and of abnormal studies. Name another --split or --finding."
        )

    @property
    def auroc(self) -> float:
        """Chance that an abnormal study scores above a normal one."""
        ordered = np.sort(self.normal)
        below = np.searchsorted(ordered, self.abnormal, side="left")
        ties = np.searchsorted(ordered, self.abnormal, side="right") - below
        return float((below + ties / 2).mean() / ordered.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """Who sends and who reads.

    Attributes
    ----------
    per_hour : float
        Studies that arrive, on average (Poisson).
    swing : float
        0: evenly; 1: none at four in the morning and twice the average at four in the afternoon.
    reading_min : float
        Mean minutes to read one (exponential).
    readers : int
    prevalence : float
        Share of abnormal studies.
    stat_share, unjudged_share : float
        Of studies sent as STAT, and that are not assessable.
    scoring_min : float
        Minutes from arrival to score.
    longest_h : float
        Hours after which a study is overdue.
    """

    per_hour: float
    swing: float
    reading_min: float
    readers: int
    prevalence: float
    stat_share: float
    unjudged_share: float
    scoring_min: float
    longest_h: float

    @property
    def load(self) -> float:
        """Share of the readers' time that is asked for; from 1 on the list grows without end."""
        return self.per_hour * self.reading_min / 60 / self.readers

    def draw(self, days: float, scores: Scores, rng: np.random.Generator) -> Day:
        """Studies of so many days."""
        arrival = _arrivals(self.per_hour, self.swing, days * HOURS_A_DAY, rng)
        count = arrival.size
        is_abnormal = rng.random(count) < self.prevalence
        score = np.where(is_abnormal, rng.choice(scores.abnormal, count), rng.choice(scores.normal, count))
        is_unjudged = rng.random(count) < self.unjudged_share
        p_value = conformal_p_values(np.sort(scores.normal), score)
        return Day(
            arrival_h=arrival,
            reading_h=rng.exponential(self.reading_min / 60, count),
            priority=np.where(rng.random(count) < self.stat_share, Priority.STAT, Priority.ROUTINE),
            is_abnormal=is_abnormal,
            p_value=np.where(is_unjudged, np.nan, p_value),
            score=np.where(is_unjudged, np.nan, score),
            scored_h=arrival + self.scoring_min / 60,
        )


def _arrivals(per_hour: float, swing: float, hours: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Poisson arrivals whose rate swings over the day, by thinning (Lewis, Shedler 1979)."""
    most = per_hour * (1 + swing)
    drawn = np.sort(rng.random(rng.poisson(most * hours))) * hours
    rate = per_hour * (1 + swing * np.sin(2 * np.pi * (drawn - 10) / HOURS_A_DAY))
    return np.asarray(drawn[rng.random(drawn.size) * most < rate])

"""What a report says of a cohort besides its rows, added up while they pass."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from service.screening.findings import Ranked

BINS = 20  # of the histogram of p-values
LISTED_SHOWN = 500  # rows of the list in the report; the tables have all


@dataclass(slots=True)
class GroupLine:
    """Studies that were compared with one reference.

    Attributes
    ----------
    group : str
        In words, with its marks: wider than the studies' own, small.
    reference_n : int
    calibration_sha256 : str
    studies, listed : int
    """

    group: str
    reference_n: int
    calibration_sha256: str
    studies: int = 0
    listed: int = 0

    @property
    def smallest_p(self) -> float:
        """No study of the group can have a smaller p-value."""
        return 1.0 / (self.reference_n + 1)


@dataclass(slots=True, kw_only=True)
class Summary:
    """Sums over a cohort.

    Attributes
    ----------
    top_wanted : int
        Scored studies to keep for the sheets.
    outcomes : Counter of str
    reasons : dict of str to Counter
        Of each outcome without a score, by code.
    histogram : list of int
        Scored studies by p-value, in `BINS` equal parts of 0 to 1.
    groups : dict
    models : Counter
        By name, version and hash.
    top, listed : list of Ranked
    on_list : int
    begun_at, ended_at : datetime or None
        First and last run.
    """

    top_wanted: int
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    groups: dict[tuple[str, int, str], GroupLine] = field(default_factory=dict)
    models: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    top: list[Ranked] = field(default_factory=list)
    listed: list[Ranked] = field(default_factory=list)
    on_list: int = 0
    begun_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def members(self) -> int:
        """All studies."""
        return self.outcomes.total()

    @property
    def scored(self) -> int:
        """Studies with a score."""
        return self.outcomes["scored"]

    def least_equal(self, q: float) -> int | None:
        """How many studies must share the smallest possible p-value before the list can hold any."""
        smallest = min((group.smallest_p for group in self.groups.values()), default=None)
        return None if smallest is None else max(1, ceil(self.scored * smallest / q))

    def add(self, item: Ranked) -> None:
        """Count one member."""
        result = item.result
        self.outcomes[result.outcome] += 1
        if result.reason is not None:
            self.reasons.setdefault(result.outcome, Counter())[result.reason] += 1
        if result.model_sha256:
            self.models[result.model_name, result.model_version, result.model_sha256] += 1
        if result.run_at is not None:
            self.begun_at = min(self.begun_at or result.run_at, result.run_at)
            self.ended_at = max(self.ended_at or result.run_at, result.run_at)
        if result.p_value is None:
            return
        self.histogram[min(int(result.p_value * BINS), BINS - 1)] += 1
        name = (result.reference_group, result.reference_n or 0, result.calibration_sha256)
        line = self.groups.setdefault(name, GroupLine(*name))
        line.studies += 1
        line.listed += item.is_listed
        self.on_list += item.is_listed
        if item.is_listed and len(self.listed) < LISTED_SHOWN:
            self.listed.append(item)
        if len(self.top) < self.top_wanted:
            self.top.append(item)

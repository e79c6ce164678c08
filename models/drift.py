"""Have the studies of a group changed? Tests that may be looked at after every study, all year.

The score of each presumed-normal study is ranked among the reference and all studies watched before it. While
nothing changes, these online conformal p-values are independent and uniform (Vovk, Gammerman, Shafer 2005,
theorem 8.1), whatever the scores are like; so a capital that bets against uniformity is a martingale, and
the chance that it ever reaches 1 / alpha is at most alpha (Ville 1939). Reference studies alone would not
do: n of them are no exact distribution, and in a year of studies that difference would look like drift. The
bets are densities on [0, 1] (power martingale: Vovk et al. 2003; inductive: Volkhonskiy et al. 2017), and a
small share of the capital moves between them at every step, so that it is there when a change comes late
(fixed share: Herbster, Warmuth 1998; conformal "simple jumper": Vovk et al. 2021).

The studies must be watched for a reason that is not their score: all consecutive ones, or those reported
normal. The reference must be of the same kind: where it holds normals alone and the studies watched do not,
every abnormal one is evidence. Without a reference the studies are ranked among those watched before them,
which is as exact and sees a change as soon as there is something to compare with.
"""

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

ALPHA = 0.01  # Chance that a group without drift ever raises an alarm.
MOVED = 0.001  # Share of the capital that is dealt out anew at each study.
LEAST_P = 1e-9  # A rank is never rarer; bounds what one study can win.
WINDOW = 100  # Studies of one Kolmogorov-Smirnov test.
WINDOW_ALPHA = 1e-4  # Of one window; a year of a busy group has some two hundred.
MOST_WATCHED = 20_000  # Then the watch begins anew, so that its state stays small.

# Beta densities (a, b) of p. (1, 1) bets nothing: capital that waits. a < 1 bets on scores that are too high,
# b < 1 on too low, both on a wider spread, both above 1 on a narrower one.
BETS = (
    (1.0, 1.0),
    (0.3, 1.0), (0.5, 1.0), (0.75, 1.0),
    (1.0, 0.3), (1.0, 0.5), (1.0, 0.75),
    (0.5, 0.5), (2.0, 2.0),
)  # fmt: skip
_WEIGHTS = np.array([0.5, *[0.5 / (len(BETS) - 1)] * (len(BETS) - 1)])


def first_capital(shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """A capital of 1, dealt out to the bets; shape (..., bets)."""
    return np.broadcast_to(_WEIGHTS, (*shape, len(BETS))).copy()


def wager(capital: NDArray[np.float64], p: ArrayLike) -> NDArray[np.float64]:
    """The capital after one more p-value; its sum is the martingale.

    Parameters
    ----------
    capital : float64, shape (..., bets)
    p : float, shape (...)
        Uniform on (0, 1] while nothing changes.
    """
    after = capital * _densities(p)
    return np.asarray((1 - MOVED) * after + MOVED * after.sum(axis=-1, keepdims=True) * _WEIGHTS)


def _densities(p: ArrayLike) -> NDArray[np.float64]:
    """Of every bet at ``p``; shape (..., bets)."""
    at = np.clip(np.asarray(p, dtype=np.float64), LEAST_P, 1 - LEAST_P)[..., None]
    return np.asarray(_CONSTANT * at ** (_A - 1) * (1 - at) ** (_B - 1))


_A, _B = np.array(BETS).T
# 1 / B(a, b) of these few pairs. Clipping p takes a little away from a bet and never adds: Ville still holds.
_CONSTANT = np.array([1, 0.3, 0.5, 0.75, 0.3, 0.5, 0.75, 1 / np.pi, 6.0])


def online_p(before: Sequence[float], value: float, tie: float) -> float:
    """Share of ``before`` and itself that is at least as high, ties broken by chance.

    Parameters
    ----------
    before : sequence of float
        Ascending: reference and all values watched so far.
    value : float
    tie : float
        Uniform on (0, 1], independent of everything.
    """
    low, high = bisect_left(before, value), bisect_right(before, value)
    return (len(before) - high + tie * (high - low + 1)) / (len(before) + 1)


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Watch(_State):
    """One number of a group's studies under watch; a value that is stored between studies.

    Attributes
    ----------
    reference : tuple of float
        Of the reference studies, ascending; empty: the studies watched before speak alone.
    watched : tuple of float
        Of the studies since the watch began, oldest first.
    capital : tuple of float
        By bet.
    highest : float
        Largest sum of the capital so far: the evidence against "nothing has changed".
    windows : int
        Windows tested.
    least_window_p : float
        Smallest p of them.
    alarm_at : int or None
        Number of the study, from 1, at which the alarm was raised; it stays until the watch begins anew.
    alarm : str
        What raised it: ``martingale`` or ``window``; empty while there is none.
    alpha : float
        Chance of an alarm of the martingale, ever, while nothing changes.
    seen : int
        Studies in all, those of earlier epochs too.
    """

    reference: tuple[float, ...] = ()
    watched: tuple[float, ...] = ()
    capital: tuple[float, ...] = tuple(_WEIGHTS.tolist())
    highest: float = 1.0
    windows: int = 0
    least_window_p: float = 1.0
    alarm_at: int | None = None
    alarm: str = ""
    alpha: Annotated[float, Field(gt=0, lt=1)] = ALPHA
    seen: int = 0

    @classmethod
    def begin(cls, reference: Sequence[float], *, alpha: float = ALPHA) -> Self:
        """A watch that has seen nothing yet.

        Parameters
        ----------
        reference : sequence of float
            Any order; may be empty.
        alpha : float
        """
        return cls(reference=tuple(sorted(reference)), alpha=alpha)

    @property
    def evidence(self) -> float:
        """The martingale: how many times its first capital the betting has won."""
        return float(sum(self.capital))

    @property
    def changed_at(self) -> int | None:
        """Number of the study at which the change probably came; None while there is no alarm.

        From there to the alarm one of the bets has won most: the change point of greatest likelihood (Page
        1954). Of a window that raised the alarm, its first study.
        """
        if self.alarm_at is None:
            return None
        if self.alarm == "window":
            return self.alarm_at - WINDOW + 1
        first = self.seen - len(self.watched) + 1
        pool, p_values = list(self.reference), []
        for number, value in enumerate(self.watched[: self.alarm_at - first + 1], start=first):
            p_values.append(online_p(pool, value, _tie(number, self.reference)))
            insort(pool, value)
        won = np.cumsum(np.log(_densities(p_values)), axis=0)
        before = np.vstack([np.zeros(len(BETS)), won[:-1]])
        return first + int(np.unravel_index((won[-1] - before).argmax(), won.shape)[0])

    def look(self, values: Sequence[float]) -> "Watch":
        """The watch after more studies, in the order of their acquisition.

        Parameters
        ----------
        values : sequence of float
            Numbers; a study without one is no part of the group.
        """
        watch = self
        for start in range(0, len(values), WINDOW):
            watch = watch._after(values[start : start + WINDOW])
        return watch

    def _after(self, values: Sequence[float]) -> "Watch":
        """After at most a window of studies; the copies of one suffice."""
        before = sorted((*self.reference, *self.watched))
        watched, capital = list(self.watched), np.array(self.capital)
        highest, alarm_at, alarm = self.highest, self.alarm_at, self.alarm
        windows, least = self.windows, self.least_window_p
        for number, value in enumerate(values, start=self.seen + 1):
            capital = wager(capital, online_p(before, value, _tie(number, self.reference)))
            # A watch that has raised its alarm has said it all; its capital need not leave the numbers.
            capital /= max(1.0, capital.sum() * self.alpha**2)
            highest = max(highest, float(capital.sum()))
            insort(before, value)
            watched.append(value)
            if alarm_at is None and highest >= 1 / self.alpha:
                alarm_at, alarm = number, "martingale"
            if len(watched) % WINDOW == 0:
                windows += 1
                p = self._window_p(watched)
                least = min(least, p)
                if alarm_at is None and p <= WINDOW_ALPHA:
                    alarm_at, alarm = number, "window"
        after = self.model_copy(
            update={
                "watched": tuple(watched),
                "capital": tuple(capital.tolist()),
                "highest": highest,
                "windows": windows,
                "least_window_p": least,
                "alarm_at": alarm_at,
                "alarm": alarm,
                "seen": self.seen + len(values),
            }
        )
        return after._renewed() if len(watched) >= MOST_WATCHED and alarm_at is None else after  # noqa: SLF001

    def _window_p(self, watched: Sequence[float]) -> float:
        """Of the newest window against the reference, or against the first window where that says more."""
        from scipy.stats import ks_2samp  # takes a second to load, and most processes never need it

        if len(self.reference) >= WINDOW:
            return float(ks_2samp(watched[-WINDOW:], self.reference).pvalue)
        return float(ks_2samp(watched[-WINDOW:], watched[:WINDOW]).pvalue)

    def _renewed(self) -> "Watch":
        """The next epoch: the same reference, a new capital, nothing watched yet."""
        return Watch.begin(self.reference, alpha=self.alpha).model_copy(
            update={"seen": self.seen, "windows": self.windows, "least_window_p": self.least_window_p}
        )


class GroupWatch(_State):
    """All that is watched of one group: its scores, and what its images are like.

    Attributes
    ----------
    group : str
        The group in words.
    calibration_sha256 : str
        Document of the reference; another one begins another watch.
    watches : dict of str to Watch
        ``score``, and the names of image statistics.
    """

    group: str
    calibration_sha256: str
    watches: dict[str, Watch]

    @classmethod
    def begin(
        cls,
        group: str,
        calibration_sha256: str,
        reference: Mapping[str, Sequence[float]],
        *,
        alpha: float = ALPHA,
    ) -> Self:
        """A watch over several numbers, together with a chance of ``alpha`` of any alarm without drift.

        Parameters
        ----------
        group, calibration_sha256 : str
        reference : dict of str to sequence of float
            Of the reference studies, by name of the number; empty where there are none of the same kind.
        alpha : float
            Shared out evenly: the numbers of one study depend on each other, and nothing is assumed of that.
        """
        share = alpha / len(reference)
        watches = {name: Watch.begin(values, alpha=share) for name, values in reference.items()}
        return cls(group=group, calibration_sha256=calibration_sha256, watches=watches)

    def look(self, study: dict[str, float]) -> "GroupWatch":
        """The watch after one more study; a number the study does not have is passed over."""
        seen = {
            name: self.watches[name].look([value]) for name, value in study.items() if name in self.watches
        }
        return self.model_copy(update={"watches": {**self.watches, **seen}})

    @property
    def evidence(self) -> float:
        """Of the number that has moved most, as a share of what raises its alarm: 1 does."""
        return max(watch.evidence * watch.alpha for watch in self.watches.values())

    @property
    def studies_since_change(self) -> int:
        """Studies from the estimated change to the alarm, both included; 0 while there is no alarm."""
        ages = [
            watch.alarm_at - watch.changed_at + 1
            for watch in self.watches.values()
            if watch.alarm_at is not None and watch.changed_at is not None
        ]
        return max(ages, default=0)

    @property
    def alarms(self) -> tuple[str, ...]:
        """Numbers that raised an alarm; while there is any, the group's percentile is withdrawn."""
        return tuple(name for name, watch in self.watches.items() if watch.alarm_at is not None)


def _tie(number: int, reference: tuple[float, ...]) -> float:
    """Uniform on (0, 1], the same for the same study of the same watch."""
    ends = reference[:1] + reference[-1:]
    digest = hashlib.sha256(f"{number}/{len(reference)}/{ends!r}".encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 1) / 2**48

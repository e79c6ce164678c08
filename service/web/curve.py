"""The curve of the map by slice, as numbers for a drawing and as a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.store.maps import Curve

WIDTH, HEIGHT = 600.0, 84.0
_FEW = 6  # runs of slices that a sentence names


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The threshold of a band: its value, and where it lies."""

    value: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One curve.

    Attributes
    ----------
    width, height : float
        Of the drawing.
    points : str
        Of the line, one at the middle of each slice.
    area : str
        The same, closed along the bottom.
    bands : tuple of Line
        Lowest first.
    highest : int
        Slice with the highest value, from 0.
    slices : int
    sentence : str
        The same in words.
    """

    width: float
    height: float
    points: str
    area: str
    bands: tuple[Line, ...]
    highest: int
    slices: int
    sentence: str


def plot(curve: Curve) -> Plot:
    """Drawing of a curve of at least one slice; values run from 0 to 1."""
    step = WIDTH / len(curve.peaks)
    places = [((index + 0.5) * step, _y(peak)) for index, peak in enumerate(curve.peaks)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Plot(
        width=WIDTH,
        height=HEIGHT,
        points=points,
        area=f"{places[0][0]:.1f},{HEIGHT:.1f} {points} {places[-1][0]:.1f},{HEIGHT:.1f}",
        bands=tuple(Line(value=band, y=_y(band)) for band in curve.bands),
        highest=_highest(curve.peaks),
        slices=len(curve.peaks),
        sentence=_sentence(curve),
    )


def _y(value: float) -> float:
    return round(HEIGHT * (1.0 - min(max(value, 0.0), 1.0)), 1)


def _highest(peaks: Sequence[float]) -> int:
    return max(range(len(peaks)), key=lambda index: peaks[index])


def _sentence(curve: Curve) -> str:
    peaks, lowest = curve.peaks, curve.bands[0]
    highest = _highest(peaks)
    above = [index for index, peak in enumerate(peaks) if peak > lowest]
    first = f"Highest in slice {highest + 1} of {len(peaks)}: {peaks[highest]:.2f}."
    if not above:
        return f"{first} No slice rises above the lowest band ({lowest:.2f})."
    verb = "slice rises" if len(above) == 1 else "slices rise"
    return f"{first} {len(above)} {verb} above the lowest band ({lowest:.2f}): {_runs(above)}."


def _runs(indices: Sequence[int]) -> str:
    """Slices as people write them: 3 to 5, 9."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    told = [f"{run[0] + 1} to {run[-1] + 1}" if len(run) > 1 else str(run[0] + 1) for run in runs[:_FEW]]
    return ", ".join(told) + (f" and {len(runs) - _FEW} more runs" if len(runs) > _FEW else "")

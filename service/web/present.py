"""Values as people read them: numbers, times, sentences, and which frames a strip shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from service.store.detail import Region
from service.store.rows import Assessment, ResultStatus, WorklistRow
from service.study import ARRIVED, DeliveryStatus
from service.web.words import KINDS, MARKS, STATUSES
from service.why import percentile

SMALL_GROUP = 100  # below it a step of the percentile is coarser than one in a hundred: said on the page
STRIP_LENGTH = 12
STRIP_PEAKS = 4
_WORST_FIRST = (
    DeliveryStatus.UNDELIVERED,
    DeliveryStatus.WAITING,
    DeliveryStatus.DELIVERED,
    DeliveryStatus.STORED,
    DeliveryStatus.WITHDRAWN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One kind of result at all its destinations together."""

    kind: str
    mark: str
    status: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """One frame of the strip; `peak` is that of the region it was chosen for."""

    frame: int
    peak: float | None


def number(value: float) -> str:
    """Raw score with four significant digits."""
    return f"{value:.4g}"


def short(digest: str) -> str:
    """First eight characters of a hash; the whole stands in the title."""
    return digest[:8]


def clock(at: datetime) -> str:
    """Date and time in the zone of this machine."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(at: datetime, now: datetime) -> str:
    """How long ago, coarsely."""
    seconds = int((now - at).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago" if seconds > 0 else "now"


def duration(seconds: float) -> str:
    """Seconds as people read them: 12 ms, 3.4 s, 2 min 5 s."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def span(since: datetime, now: datetime) -> str:
    """How long, coarsely: ``12 min``."""
    return ago(since, now).removesuffix(" ago").replace("now", "0 s")


def step(value: float) -> str:
    """Class of a percentile's colour: ``c9`` is the most unusual tenth, ``c0`` the most usual."""
    return f"c{9 - min(int(value // 10), 9)}"


def basis_of(assessment: Assessment) -> tuple[str, str, str, int]:
    """What a percentile stands on: two of one basis compare."""
    return (
        assessment.model.sha256,
        assessment.calibration_sha256,
        assessment.reference_group,
        assessment.reference_n,
    )


def common_basis(rows: Iterable[WorklistRow]) -> tuple[str, str, str, int] | None:
    """What all percentiles of a page stand on; None where they differ, or there are none."""
    found = {basis_of(row.assessment) for row in rows if row.assessment}
    return found.pop() if len(found) == 1 else None


def size(count: int) -> str:
    """Bytes as people count them."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004 - SI steps
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def standing(assessment: Assessment) -> str:
    """What the percentile says, in one sentence that stays true for a small reference group."""
    n = assessment.reference_n
    beyond = (
        assessment.p_value * (n + 1) - 1
    )  # split-conformal: p = (1 + studies at least as unusual) / (n + 1)
    if n < 1 or abs(beyond - round(beyond)) > 1e-6:  # noqa: PLR2004 - rounding of a stored float
        return (
            f"As unusual as the most unusual {percentile(assessment.percentile)} % of "
            f"{n} reference studies ({assessment.reference_group})."
        )
    count = round(beyond)
    who = "None" if count == 0 else "All" if count == n else str(count)
    verb = "is" if count == 0 else "is at least" if count == 1 else "are at least"
    return f"{who} of the {n} reference studies ({assessment.reference_group}) {verb} as unusual as this one."


def caution(assessment: Assessment) -> str | None:
    """What a small reference group cannot say."""
    n = assessment.reference_n
    if n >= SMALL_GROUP:
        return None
    lowest = percentile(100 / (n + 1))
    return f"Small reference group: with n = {n} no study can fall below percentile {lowest}."


def ticks(results: Iterable[ResultStatus]) -> list[Tick]:
    """One mark per kind: the worst that any destination says counts."""
    kinds: dict[str, list[ResultStatus]] = {}
    for result in results:
        kinds.setdefault(result.kind, []).append(result)
    order = [*KINDS, *sorted(set(kinds) - set(KINDS))]
    return [_tick(kind, kinds[kind]) for kind in order if kind in kinds]


def _tick(kind: str, results: Sequence[ResultStatus]) -> Tick:
    told = [
        f"{STATUSES[result.status]} {'at' if result.status in ARRIVED else 'for'} {result.destination}"
        for result in results
        if result.status is not None
    ]
    found = {result.status for result in results} - {None}
    worst = next((status for status in _WORST_FIRST if status in found), None)
    return Tick(
        kind=kind.upper(),
        mark=MARKS[worst] if worst else "kept",
        status=worst.value if worst else "kept",
        label=f"{KINDS.get(kind, kind.upper())}: {', '.join(told) or 'kept here, no destination'}",
    )


def strip(frames: int, regions: Sequence[Region]) -> list[Thumbnail]:
    """Frames worth a look first: the peaks of the strongest regions, then a regular sampling of the rest.

    Parameters
    ----------
    frames : int
        Frames there are.
    regions : sequence of Region
        Largest peak first.
    """
    peaks: dict[int, float] = {}
    for region in regions:
        if region.slice_index < frames and len(peaks) < STRIP_PEAKS:
            peaks.setdefault(region.slice_index, region.peak)
    room = min(STRIP_LENGTH, frames) - len(peaks)
    others = [frame for frame in range(frames) if frame not in peaks]
    sampled = [others[(2 * step + 1) * len(others) // (2 * room)] for step in range(room)]
    return [
        *(Thumbnail(frame=frame, peak=peak) for frame, peak in peaks.items()),
        *(Thumbnail(frame=frame, peak=None) for frame in sampled),
    ]

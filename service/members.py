"""Series that lack an instance the node took: what is left of one is never scored as if it were whole.

A file can be damaged and still be admitted, for its keys are in front. What cannot be read may be the end
of a stack, which no geometry misses: the intake's record of what belongs to which series decides.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dicom_node.identity import series_key
from dicom_node.reader import UNREADABLE_KEY, Series
from models.errors import Reason

UNKNOWN = frozenset({"", series_key("")})  # of a file that could not be read, and of one that names no series


def refuse_partial(every: Sequence[Series], series_of: Mapping[str, str]) -> tuple[Series, ...]:
    """The same series, those refused as UNREADABLE that lack a member.

    Parameters
    ----------
    every : sequence of Series
        Of one study.
    series_of : mapping of str to str
        File name to the pseudonym of the series that the intake read in it.

    Returns
    -------
    tuple of Series
        Where it is not known to which series an unreadable file belongs, all are refused: any may lack it.
    """
    lost: Counter[str] = Counter()
    uid_of: dict[str, str] = {}
    for one in every:
        for path in one.paths:
            known = series_of.get(path.name, "")
            if one.key == UNREADABLE_KEY:
                lost[known] += 1
            elif known not in UNKNOWN:
                uid_of[known] = one.series_uid
    if not UNKNOWN.isdisjoint(lost):
        detail = f"{lost.total()} instances of the study cannot be read, and may be of this series."
        return tuple(_refused(one, detail) for one in every)
    partial = {
        uid_of[known]: f"{count} instances of the series cannot be read."
        for known, count in lost.items()
        if known in uid_of
    }
    return tuple(
        _refused(one, partial[one.series_uid]) if one.series_uid in partial else one for one in every
    )


def _refused(series: Series, detail: str) -> Series:
    """A series without a reason gets this one."""
    return replace(series, reason=Reason.UNREADABLE, detail=detail) if series.reason is None else series

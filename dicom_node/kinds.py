"""Kinds of result objects, and which of them a site asks for. Imports nothing heavy."""

from enum import StrEnum
from typing import Final


class ResultKind(StrEnum):
    """Kinds of result objects; the value is stored and shown."""

    SEGMENTATION = "seg"
    FRACTIONAL_SEGMENTATION = "seg_fractional"
    LABEL_MAP = "seg_labelmap"
    PARAMETRIC_MAP = "pm"
    SECONDARY_CAPTURE = "sc"
    REPORT = "sr"
    KEY_OBJECTS = "ko"
    PRESENTATION = "pr"


class RetractionKind(StrEnum):
    """Kinds of objects that take earlier results back; made where they are needed, wanted by no setting."""

    PICTURE = "sc_retraction"
    REPORT = "sr_retraction"

    @property
    def like(self) -> ResultKind:
        """Kind of result that they are among: a destination that is sent the one is sent the other."""
        return ResultKind(self.value.removesuffix("_retraction"))


DEFAULT_KINDS: Final = frozenset(
    {ResultKind.SEGMENTATION, ResultKind.SECONDARY_CAPTURE, ResultKind.REPORT}
)  # what every archive takes; the others are for sites that asked for them


def read_kinds(text: str) -> frozenset[ResultKind]:
    """Kinds of a list such as ``seg,sc,sr``.

    Raises
    ------
    ValueError
        If one is unknown, or the report is left out: it alone says why a study has no score.
    """
    names = [name.strip() for name in text.split(",")]
    known = {kind.value for kind in ResultKind}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"{', '.join(unknown)!r} is none of {', '.join(sorted(known))}")
    if ResultKind.REPORT not in names:
        raise ValueError("'sr' is never left out: it alone says why a study has no score")
    return frozenset(ResultKind(name) for name in names)

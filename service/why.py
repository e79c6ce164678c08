"""Why a study stands where it stands on the list: codes, and the words for them in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """One reason for a place on the list.

    Attributes
    ----------
    code : str
        Stable, for programs.
    text : str
        A sentence for people, free of identity.
    """

    code: str
    text: str

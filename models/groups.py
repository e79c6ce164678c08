"""Groups of studies that are compared with each other: the strata of a calibration.

A percentile means something only against studies made alike. A group names what they share, from what
decides most of an image (modality, body part, sequence) to what decides least (site). A group without
enough studies is widened from its end: first any site, then any age, then any scanner. Group-wise conformal
prediction is Mondrian (Vovk, Gammerman, Shafer 2005, section 4.5).
"""

import json
import re
from typing import Self

from pydantic import BaseModel, ConfigDict

from models.volume import Acquisition

UNSTATED = "unstated"  # The header says nothing; a group of its own, not "any".
AGES = (18, 40, 60, 80)  # Years at which a band of ages begins.
FIELDS = ("modality", "body_part", "sequence", "manufacturer", "model_name", "age_band", "site")
ALIKE = (
    "modality",
    "body_part",
    "sequence",
)  # What must agree in any group, unless a document says otherwise.

# First that is found counts: an FLAIR is T2-weighted and says so too.
SEQUENCES = (
    ("FLAIR", r"FLAIR|DARK.?FLUID|TIRM"),
    ("DWI", r"DWI|DTI|ADC|TRACE|DIFF"),
    ("SWI", r"SWI|SWAN|VEN_?BOLD"),
    ("TOF", r"TOF|ANGIO"),
    ("BOLD", r"BOLD|FMRI|REST"),
    ("T2*", r"T2 ?\*|T2STAR|HEMO"),
    ("T2", r"T2"),
    ("PD", r"(?<![A-Z])PD"),
    ("T1", r"T1|MP2?RAGE|SPGR|BRAVO|TFE"),
)


class Group(BaseModel):
    """What a set of studies has in common. None: any.

    Attributes
    ----------
    modality, body_part : str or None
        As in the header, upper case.
    sequence : str or None
        Weighting, of MR; with ``+C`` where a contrast agent was given.
    manufacturer, model_name : str or None
        Of the scanner, upper case; of the manufacturer the first word, for its name changes with the years.
    age_band : str or None
        Such as ``40-59``.
    site : str or None
        As the site calls itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: str | None = None
    body_part: str | None = None
    sequence: str | None = None
    manufacturer: str | None = None
    model_name: str | None = None
    age_band: str | None = None
    site: str | None = None

    @classmethod
    def of(cls, acquisition: Acquisition, site: str) -> Self:
        """The narrowest group of a series.

        Parameters
        ----------
        acquisition : Acquisition
        site : str
        """
        makers = acquisition.manufacturer.upper().split()
        return cls(
            modality=acquisition.modality.upper() or UNSTATED,
            body_part=acquisition.body_part.upper() or UNSTATED,
            sequence=sequence_of(acquisition),
            manufacturer=makers[0] if makers else UNSTATED,
            model_name=" ".join(acquisition.model_name.upper().split()) or UNSTATED,
            age_band=age_band(acquisition.age_years),
            site=site or UNSTATED,
        )

    @property
    def key(self) -> str:
        """The group as text that is the same wherever it is written: canonical JSON."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    @property
    def scanner(self) -> Self:
        """Everybody on this scanner at this site, whatever their age: what is commissioned as one."""
        return self.model_copy(update={"age_band": None})

    @property
    def label(self) -> str:
        """The group in words, for reports and pages."""
        stated = [str(value) for name in FIELDS if (value := getattr(self, name)) not in (None, UNSTATED)]
        words = [f"{value} years" if value == self.age_band else value for value in stated]
        return ", ".join(words) or "any study"

    def holds(self, other: "Group") -> bool:
        """Whether every study of ``other`` is one of this group."""
        return all(getattr(self, name) in (None, getattr(other, name)) for name in FIELDS)

    def widened(self, alike: tuple[str, ...] = ALIKE) -> tuple["Group", ...]:
        """The group and those it may fall back to, narrowest first.

        Parameters
        ----------
        alike : tuple of str
            Fields that are never given up.
        """
        found = [self]
        for name in reversed(FIELDS):
            if name not in alike and getattr(found[-1], name) is not None:
                found.append(found[-1].model_copy(update={name: None}))
        return tuple(found)


def age_band(years: float | None) -> str:
    """Band of an age: ``0-17``, ``18-39``, ``40-59``, ``60-79``, ``80+``, or unstated."""
    if years is None:
        return UNSTATED
    start = max((edge for edge in AGES if edge <= years), default=0)
    if start == AGES[-1]:
        return f"{start}+"
    return f"{start}-{min(edge for edge in AGES if edge > years) - 1}"


def sequence_of(acquisition: Acquisition) -> str:
    """Weighting of an MR series, read from its description; unstated where that says nothing.

    Parameters
    ----------
    acquisition : Acquisition
        Of another modality than MR there is no sequence.
    """
    if acquisition.modality.upper() != "MR":
        return UNSTATED
    written = acquisition.description.upper()
    named = next((name for name, pattern in SEQUENCES if re.search(pattern, written)), UNSTATED)
    return f"{named}+C" if acquisition.contrast_agent else named

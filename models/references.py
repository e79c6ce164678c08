"""The reference studies that one study is compared with, and where it stands among them."""

from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

from models.calibration import Calibration, conformal_p_values, find_bands
from models.errors import NotAssessableError, Reason
from models.groups import Group
from models.scores import ModelIdentity
from models.tail import Tail

LEAST_LOOKS = 20  # Fewer studies do not show how far the images of normals go.
FAR = 1.0  # Widths of the reference's range beyond it: another protocol, not a rare patient.
SAME = 0.05  # Share of a value that is rounding or a patient's own.


@dataclass(frozen=True)
class Reference:
    """The studies one study is compared with.

    Attributes
    ----------
    asked, group : Group
        The narrowest group of the study, and the one that has enough studies.
    scores, maxima : tuple of float
        Of all reference studies of ``group``; scores ascend.
    looks : dict of str to tuple of float
        What their images are like.
    least : int
        Studies that are enough.
    pixel_rate : float
        Share of normals that may show any highlighted voxel.
    document_sha256, made_on : str, date
        Of the document they stand in.
    """

    asked: Group
    group: Group
    scores: tuple[float, ...]
    maxima: tuple[float, ...]
    looks: dict[str, tuple[float, ...]]
    least: int
    pixel_rate: float
    document_sha256: str
    made_on: date

    @property
    def n(self) -> int:
        """Reference studies."""
        return len(self.scores)

    @property
    def is_fallback(self) -> bool:
        """A wider group speaks, for the study's own has too few studies."""
        return self.group != self.asked

    @property
    def is_small(self) -> bool:
        """Even this group has fewer studies than a percentile deserves."""
        return self.n < self.least

    @property
    def label(self) -> str:
        """The group in words, with what a reader must know of it."""
        marks = []
        if self.is_fallback:
            marks.append(f"wider than the study's own, {self.asked.label}")
        if self.is_small:
            marks.append("small")
        return f"{self.group.label} ({'; '.join(marks)})" if marks else self.group.label

    @cached_property
    def tail(self) -> Tail | None:
        """The fitted tail of the scores, where there are enough of them."""
        return Tail.fit(self.scores)

    def p_value(self, score: float) -> float:
        """Split-conformal p of a score, in [1 / (n + 1), 1]: the only number that is shown and decided by."""
        return float(conformal_p_values(self.scores, score))

    def tail_of(self, score: float) -> float | None:
        """Estimated share of normals that score higher, at most the p-value; None where no tail is fitted."""
        beyond = self.tail.probability(score) if self.tail else None
        return None if beyond is None else min(beyond, self.p_value(score))

    def check_looks(self, found: dict[str, float]) -> None:
        """Pass, or say in what a study's images are unlike those of the reference.

        Parameters
        ----------
        found : dict of str to float
            As of `models.appearance.appearance`.

        Raises
        ------
        NotAssessableError
            UNLIKE_TRAINING.
        """
        if self.n < LEAST_LOOKS:
            return
        for name, values in self.looks.items():
            low, high = min(values), max(values)
            # A spacing may be the same in every study of a protocol; rounding must not refuse the next.
            room = FAR * max(high - low, SAME * abs(high))
            if name in found and not low - room <= found[name] <= high + room:
                raise NotAssessableError(
                    Reason.UNLIKE_TRAINING,
                    f"Its {name} is {found[name]:.3g}; the reference has {low:.3g} to {high:.3g}.",
                )

    def calibration(self, base: Calibration) -> Calibration:
        """A calibration as an artefact brings one, with this reference in place of its own.

        Parameters
        ----------
        base : Calibration
            The artefact's: the levels of its members stay, and its bands where no map was kept.
        """
        changed: dict[str, Any] = {
            "group": self.label,
            "calibrated_on": self.made_on,
            "scores": self.scores,
        }
        if self.maxima and max(self.maxima) > 0:
            display_max, bands, rule = find_bands(self.maxima, self.pixel_rate)
            changed |= {"display_max": display_max, "bands": bands, "band_rule": rule}
        return Calibration.model_validate(base.model_dump() | changed)

    def identify(self, model: ModelIdentity) -> ModelIdentity:
        """Who speaks, and against this reference (design I10)."""
        return replace(
            model,
            calibration_sha256=self.document_sha256,
            calibrated_on=self.made_on,
            group=self.label,
            n=self.n,
        )

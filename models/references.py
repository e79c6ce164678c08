"""The calibration document of a site: reference scores by group, with who made them, when and why.

An artefact brings a calibration of its own, made where the model was made. A site's document takes its
place: one file, versioned, naming the model it belongs to. It is never changed; a new one names the one it
replaces. For a study it gives the narrowest group with enough studies, marked where that is a wider one
than asked for, or nothing: then the study is *not calibrated*, which is a state and no number.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.calibration import SMALL_GROUP, Calibration, conformal_p_values, find_bands
from models.errors import DocumentError
from models.groups import ALIKE, FIELDS, Group
from models.scores import ModelIdentity
from models.tail import Tail

PIXEL_RATE = 0.05  # Of normals that may show any highlighted voxel.
DIGEST = "sha256"


class Stratum(BaseModel):
    """Reference studies of one group; one study a person.

    Attributes
    ----------
    group : Group
        The narrowest there is of them.
    scores : tuple of float
        Study scores, ascending.
    maxima : tuple of float
        Highest value of each study's combined map, in the order of nothing; empty where there is no map.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    group: Group
    scores: Annotated[tuple[float, ...], Field(min_length=1)]
    maxima: tuple[Annotated[float, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if list(self.scores) != sorted(self.scores):
            raise ValueError("scores must ascend")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one study stands among its reference.

    Attributes
    ----------
    p_value : float
        Conformal, in [1 / (n + 1), 1]: the only number that is shown and decided by.
    tail : float or None
        Estimated share of normals that score higher, never above ``p_value``; for the order alone.
    score : float
    """

    p_value: float
    tail: float | None
    score: float

    @property
    def order(self) -> tuple[float, float, float]:
        """Most unusual first when sorted ascending: by p, then by the tail, then by the raw score."""
        return self.p_value, self.p_value if self.tail is None else self.tail, -self.score


@dataclass(frozen=True)
class Reference:
    """The studies one study is compared with.

    Attributes
    ----------
    asked, group : Group
        The narrowest group of the study, and the one that has enough studies.
    scores, maxima : tuple of float
        Of all reference studies of ``group``; scores ascend.
    least : int
        Studies that are enough.
    document : CalibrationDocument
        Where they stand.
    """

    asked: Group
    group: Group
    scores: tuple[float, ...]
    maxima: tuple[float, ...]
    least: int
    document: "CalibrationDocument"

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

    def standing(self, score: float) -> Standing:
        """Where a study of this score stands."""
        p = float(conformal_p_values(self.scores, score))
        beyond = self.tail.probability(score) if self.tail else None
        return Standing(p_value=p, tail=None if beyond is None else min(beyond, p), score=score)

    def calibration(self, base: Calibration) -> Calibration:
        """A calibration as an artefact brings one, with this reference in place of its own.

        Parameters
        ----------
        base : Calibration
            The artefact's: the levels of its members stay, and its bands where no map was kept.
        """
        changed: dict[str, Any] = {
            "group": self.label,
            "calibrated_on": self.document.made_on,
            "scores": self.scores,
        }
        if self.maxima and max(self.maxima) > 0:
            display_max, bands, rule = find_bands(self.maxima, self.document.pixel_rate)
            changed |= {"display_max": display_max, "bands": bands, "band_rule": rule}
        return Calibration.model_validate(base.model_dump() | changed)

    def identify(self, model: ModelIdentity) -> ModelIdentity:
        """Who speaks, and against this reference (design I10)."""
        return replace(
            model,
            calibration_sha256=self.document.sha256,
            calibrated_on=self.document.made_on,
            group=self.label,
            n=self.n,
        )


class CalibrationDocument(BaseModel):
    """Content of a calibration document, format 2; the calibration in an artefact is format 1.

    Attributes
    ----------
    version : int
        From 1; a site counts its own.
    model_sha256 : str
        Hash of the artefact whose scores these are.
    made_on : date
    author, reason : str
        Who made it, and why.
    replaces : str or None
        SHA-256 of the document before it.
    least : int
        Studies a group needs to speak for itself.
    alike : tuple of str
        Fields in which a study and its group must always agree. With manufacturer and model among them, a
        scanner without reference studies of its own is not calibrated, and no other speaks for it.
    pixel_rate : float
        Share of normals that may show any highlighted voxel.
    strata : tuple of Stratum
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    version: Annotated[int, Field(ge=1)]
    model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    made_on: date
    author: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]
    replaces: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    least: Annotated[int, Field(ge=1)] = SMALL_GROUP
    alike: tuple[str, ...] = ALIKE
    pixel_rate: Annotated[float, Field(gt=0, lt=1)] = PIXEL_RATE
    strata: Annotated[tuple[Stratum, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        groups = [stratum.group for stratum in self.strata]
        if len(set(groups)) < len(groups):
            raise ValueError("two strata are of one group")
        if unknown := set(self.alike) - set(FIELDS):
            raise ValueError(f"a group has no {', '.join(sorted(unknown))}")
        return self

    @cached_property
    def sha256(self) -> str:
        """Hash over the whole content, hexadecimal: what stands beside every number."""
        return hashlib.sha256(_canonical(self)).hexdigest()

    @property
    def n(self) -> int:
        """Reference studies of all groups."""
        return sum(len(stratum.scores) for stratum in self.strata)

    def reference(self, group: Group) -> Reference | None:
        """Whom a study of a group is compared with.

        The group is chosen by its size alone, never by the study's score, so that a conformal p stays one.

        Returns
        -------
        Reference or None
            The narrowest group with ``least`` studies; without one the widest that has any. None where
            there is none: the study is not calibrated.
        """
        found = None
        for wider in group.widened(self.alike):
            strata = [stratum for stratum in self.strata if wider.holds(stratum.group)]
            if strata:
                found = self._pooled(group, wider, strata)
                if found.n >= self.least:
                    return found
        return found

    def _pooled(self, asked: Group, group: Group, strata: Sequence[Stratum]) -> Reference:
        maxima = [value for stratum in strata for value in stratum.maxima]
        is_complete = all(len(stratum.maxima) == len(stratum.scores) for stratum in strata)
        return Reference(
            asked=asked,
            group=group,
            scores=tuple(sorted(value for stratum in strata for value in stratum.scores)),
            maxima=tuple(maxima) if is_complete else (),
            least=self.least,
            document=self,
        )


def write_document(path: Path, document: CalibrationDocument) -> None:
    """Write a document with its hash; the same bytes for the same content."""
    content = document.model_dump(mode="json") | {DIGEST: document.sha256}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_document(path: Path) -> CalibrationDocument:
    """Read a document and check its hash.

    Raises
    ------
    DocumentError
        If it is missing, not valid, or not what was written.
    """
    try:
        content = json.loads(path.read_bytes())
        stated = content.pop(DIGEST, None) if isinstance(content, dict) else None
        document = CalibrationDocument.model_validate_json(json.dumps(content))
    except OSError as error:
        raise DocumentError(path, f"cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DocumentError(path, f"is not valid: {field}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise DocumentError(path, "is no JSON") from error
    if stated != document.sha256:
        raise DocumentError(path, "was changed after it was made")
    return document


def strata_of(
    groups: Sequence[Group], scores: Sequence[float], maxima: Sequence[float | None]
) -> tuple[Stratum, ...]:
    """Reference studies, sorted into their narrowest groups.

    Parameters
    ----------
    groups, scores, maxima : sequences of the same length
        One entry a study; a maximum is None where the study has no map.
    """
    made = []
    values, highest = np.asarray(scores, dtype=np.float64), np.asarray(maxima, dtype=np.float64)
    for group in sorted(set(groups), key=lambda one: [getattr(one, name) or "" for name in FIELDS]):
        mine = [place for place, other in enumerate(groups) if other == group]
        kept = highest[mine][np.isfinite(highest[mine])]
        made.append(
            Stratum(
                group=group,
                scores=tuple(float(value) for value in np.sort(values[mine])),
                maxima=tuple(float(value) for value in np.sort(kept)),
            )
        )
    return tuple(made)


def _canonical(document: CalibrationDocument) -> bytes:
    return json.dumps(document.model_dump(mode="json"), sort_keys=True).encode()

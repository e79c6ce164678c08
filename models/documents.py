"""The calibration document of a site: reference scores by group, with who made them, when and why.

An artefact brings a calibration of its own, made where the model was made. A site's document takes its
place: one file, versioned, naming the model it belongs to. It is never changed; a new one names the one it
replaces. For a study it gives the narrowest group with enough studies, marked where that is a wider one
than asked for, or nothing: then the study is *not calibrated*, which is a state and no number.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.calibration import SMALL_GROUP
from models.errors import DocumentError, NotAssessableError, Reason
from models.groups import ALIKE, FIELDS, Group
from models.references import Reference

PIXEL_RATE = 0.05  # Of normals that may show any highlighted voxel.
DIGEST = "sha256"
MOST_KEPT = 64  # References kept at hand: pooling and fitting a tail takes as long as scoring a picture.

# A database keeps no sign of a zero; with one, the hash of a document that was there would be another.
Number = Annotated[float, AfterValidator(lambda value: value + 0.0)]


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
    looks : dict of str to tuple of float
        What the images are like, by the names of `models.appearance`; each in the order of nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    group: Group
    scores: Annotated[tuple[Number, ...], Field(min_length=1)]
    maxima: tuple[Annotated[Number, Field(ge=0)], ...] = ()
    looks: dict[str, tuple[Number, ...]] = {}

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if list(self.scores) != sorted(self.scores):
            raise ValueError("scores must ascend")
        return self


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
        names = set.intersection(*(set(stratum.looks) for stratum in strata))
        is_complete = all(len(stratum.maxima) == len(stratum.scores) for stratum in strata)
        return Reference(
            asked=asked,
            group=group,
            scores=tuple(sorted(value for stratum in strata for value in stratum.scores)),
            maxima=tuple(maxima) if is_complete else (),
            looks={name: tuple(v for one in strata for v in one.looks[name]) for name in sorted(names)},
            least=self.least,
            pixel_rate=self.pixel_rate,
            document_sha256=self.sha256,
            made_on=self.made_on,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStudy:
    """One study of a reference.

    Attributes
    ----------
    group : Group
    score : float
    peak : float or None
        Highest value of its combined map; None for a method without one.
    looks : dict of str to float
        What its images are like.
    """

    group: Group
    score: float
    peak: float | None = None
    looks: dict[str, float] = field(default_factory=dict)


def strata_of(studies: Sequence[ReferenceStudy]) -> tuple[Stratum, ...]:
    """Reference studies, sorted into their narrowest groups.

    Within a group every list is sorted by itself: what belongs to one person cannot be put together again.
    """
    found: dict[Group, list[ReferenceStudy]] = {}
    for study in studies:
        found.setdefault(study.group, []).append(study)
    ordered = sorted(found, key=lambda group: [getattr(group, name) or "" for name in FIELDS])
    return tuple(_stratum(group, found[group]) for group in ordered)


def _stratum(group: Group, studies: Sequence[ReferenceStudy]) -> Stratum:
    names = sorted(set.intersection(*(set(study.looks) for study in studies)))
    return Stratum(
        group=group,
        scores=tuple(sorted(study.score for study in studies)),
        maxima=tuple(sorted(study.peak for study in studies if study.peak is not None)),
        looks={name: tuple(sorted(study.looks[name] for study in studies)) for name in names},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCalibration:
    """The calibration document in force, and what the site calls itself in it.

    Attributes
    ----------
    document : CalibrationDocument, optional
        None: the artefact's own calibration serves.
    site : str
    """

    document: CalibrationDocument | None = None
    site: str = ""
    _found: dict[Group, Reference] = field(default_factory=dict, init=False, repr=False, compare=False)

    def reference(self, group: Group, model_sha256: str) -> Reference | None:
        """Whom a series of a group is compared with when this model scores it; None: the artefact's own.

        Raises
        ------
        NotAssessableError
            UNCALIBRATED.
        """
        if self.document is None:
            return None
        if model_sha256 != self.document.model_sha256:
            raise NotAssessableError(Reason.UNCALIBRATED, "The calibration in force is of another model.")
        reference = self._found.get(group) or self.document.reference(group)
        if reference is None:
            raise NotAssessableError(Reason.UNCALIBRATED, f"No reference studies for {group.label}.")
        if len(self._found) >= MOST_KEPT:  # groups are named by headers, which anybody may write
            self._found.clear()
        self._found[group] = reference
        return reference


def _canonical(document: CalibrationDocument) -> bytes:
    return json.dumps(document.model_dump(mode="json"), sort_keys=True).encode()

"""A method record: the declarative definition of a method, read and checked from YAML.

Every value of a record belongs to a part, and every part is a class that names its ``type``, checks its own
values and builds what it stands for. Adding a method needs a record and, at most, one new part.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from models.errors import RecordError
from models.images.contract import ImageContract, Step
from models.making.augment import Augmentation
from models.making.parts import AnyNetwork, AnyScorer, AnyTrainer
from models.making.passes import Shape
from models.making.scorers.residual import Residual, Sign
from models.making.section import Count, NotNegative, Positive, Section, Share

RECORDS = Path(__file__).resolve().parent.parent / "records"

Family = Literal[
    "autoencoder", "variational", "adversarial", "density", "self-supervised", "hybrid", "baseline", "beyond"
]


class MethodInput(Section):
    """What the network sees, where it differs from the data folder's own contract.

    Attributes
    ----------
    size, channels, context, steps, fit, mask : optional
        As in ``ImageContract``; what is not given is the data folder's.
    take : tuple of int, optional
        Channels of the prepared picture that the networks see; all, unless given.
    shift, scale : float
        The networks see (x - shift) / scale. Part of the exported graph.
    """

    size: tuple[Count, Count] | None = None
    channels: Count | None = None
    context: tuple[int, ...] | None = None
    steps: tuple[Step, ...] | None = None
    fit: Literal["pad", "stretch"] | None = None
    mask: Literal["all", "content", "tissue", "brain"] | None = None
    take: tuple[int, ...] | None = None
    shift: float = 0.0
    scale: Positive = 1.0

    def contract(self, data: ImageContract) -> ImageContract:
        """The data folder's contract with what the record changes of it.

        Raises
        ------
        RecordError
            If the two do not fit together.
        """
        changes = self.model_dump(exclude={"take", "shift", "scale"}, exclude_none=True)
        try:
            return ImageContract.model_validate({**data.model_dump(), **changes})
        except ValidationError as error:
            raise RecordError(f"input: {error.errors()[0]['msg']}") from error

    def seen(self, shape: Shape) -> Shape:
        """Shape of what the networks see of a picture."""
        return shape if self.take is None else Shape(len(self.take), shape.rows, shape.columns)

    def normalise(self, x: Tensor) -> Tensor:
        """Raw pixels → what the networks see."""
        taken = x if self.take is None else x[:, list(self.take)]
        return (taken - self.shift) / self.scale


class Aggregation(Section):
    """How the pixels of a map become the score of an image.

    Attributes
    ----------
    type : str
        ``own``: the scorer's own score; ``mean``: mean over the mask; ``top``: mean of the highest pixels;
        ``max``.
    share : float
        Of the grid's pixels, for ``top``. A constant number, so that images compare.
    """

    type: Literal["own", "mean", "top", "max"] = "mean"
    share: Share = 0.001


class Score(Section):
    """From a trained method to scores.

    Attributes
    ----------
    by : AnyScorer
    smooth : float
        Sigma of the blur of the pixel map in pixels; 0: none.
    place : str
        Compare each pixel of the map with training normals at the same place, for aligned images alone.
        ``excess``: (map - mean) / deviation; ``deviation``: its absolute value.
    image : Aggregation
    study : str
        How the slices of a stack become the score of a study.
    """

    by: AnyScorer
    smooth: NotNegative = 0.0
    place: Literal["none", "excess", "deviation"] = "none"
    image: Aggregation = Aggregation()
    study: Literal["max", "mean", "top_quartile"] = "max"


class MethodRecord(Section):
    """The whole definition of a method.

    Attributes
    ----------
    id : str
        File name of the record.
    covers : tuple of str
        Rows of the inventory of methods this record stands for, such as ``A1``.
    family : str
    source : str
        Author, year and section.
    networks : dict
        Each built for the shape of the input, by name.
    stages : tuple
        Trained one after the other. A method with several is a two-stage method.
    differs : str
        What differs from the source, and why.
    open : str
        What of the contract the record does not meet yet; such a record is not done.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    covers: tuple[str, ...]
    title: str
    family: Family
    source: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "0.1.0"
    licence: str = "Apache-2.0"
    disclaimer: str = "Research model, not for clinical use."
    differs: str = ""
    open: str = ""
    input: MethodInput = MethodInput()
    augment: Augmentation = Augmentation()
    networks: dict[str, AnyNetwork] = Field(default_factory=dict)
    stages: tuple[AnyTrainer, ...] = ()
    score: Score

    @model_validator(mode="after")
    def _names_are_known(self) -> "MethodRecord":
        for number, stage in enumerate(self.stages):
            for name in stage.names():
                if name not in self.networks:
                    raise ValueError(f"stages.{number}: {name} is not among the networks")
        for name in self.score.by.names():
            if name not in self.networks:
                raise ValueError(f"score.by: {name} is not among the networks")
        return self


class Member(Section):
    """One method of an ensemble.

    Attributes
    ----------
    record : str
        Id of a shipped record, of a method.
    seeds : int
        Trained so often, each from a seed of its own.
    weight : float
        Of each member's rank.
    on : str
        What the member is heard on: its image score, its map, or both.
    take : tuple of int, optional
        Channels of the prepared picture that the member sees; all, unless given.
    steps : int, optional
        Of every stage, instead of the record's own.
    sign : str, optional
        Which part of the residual, instead of the record's own.
    """

    record: str
    seeds: Count = 1
    weight: Positive = 1.0
    on: Literal["both", "image", "map"] = "both"
    take: tuple[int, ...] | None = None
    steps: Count | None = None
    sign: Sign | None = None

    def method(self, given: MethodInput) -> MethodRecord:
        """The member's record as the ensemble wants it.

        Raises
        ------
        RecordError
            If the record is not valid or has no residual whose sign could be chosen.
        """
        found = read_method(self.record)
        changes: dict[str, object] = {"input": given.model_copy(update={"take": self.take})}
        if self.steps is not None:
            changes["stages"] = tuple(s.model_copy(update={"steps": self.steps}) for s in found.stages)
        if self.sign is not None:
            if not isinstance(found.score.by, Residual):
                raise RecordError(f"{self.record}: sign: the member has no residual")
            by = found.score.by.model_copy(update={"sign": self.sign})
            changes["score"] = found.score.model_copy(update={"by": by})
        return found.model_copy(update=changes)


class EnsembleRecord(Section):
    """The definition of an ensemble.

    Attributes
    ----------
    input : MethodInput
        What all members see; their own records' inputs do not count.
    members : dict of str to Member
        At least one with a map, if the ensemble is to have one.
    pixel : str
        How maps are joined: ``mean`` of maps divided by their own spread on normals, or their ``product``
        (geometric mean).
    image : str
        ``rank``: mean of the members' image ranks; ``top``: mean of the highest pixels of the joint map.
    share : float
        Of the grid's pixels, for ``top``.
    smooth : float
        Sigma of the blur of the joint map, pixels.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    covers: tuple[str, ...] = ()
    title: str
    family: Family = "beyond"
    source: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "0.1.0"
    licence: str = "Apache-2.0"
    disclaimer: str = "Research model, not for clinical use."
    differs: str = ""
    open: str = ""
    input: MethodInput = MethodInput()
    members: Annotated[dict[str, Member], Field(min_length=1)]
    pixel: Literal["mean", "product"] = "mean"
    image: Literal["rank", "top"] = "rank"
    share: Annotated[float, Field(gt=0, le=1)] = 0.01
    smooth: Annotated[float, Field(ge=0)] = 0.0
    study: Literal["max", "mean", "top_quartile"] = "max"

    @model_validator(mode="after")
    def _has_what_it_joins(self) -> "EnsembleRecord":
        if self.image == "rank" and all(member.on == "map" for member in self.members.values()):
            raise ValueError("image: rank needs a member that is heard on images")
        return self


Recipe = MethodRecord | EnsembleRecord


def read_recipe(path: Path | str) -> Recipe:
    """A checked record of a method or an ensemble, from a file or by the id of a shipped one.

    Raises
    ------
    RecordError
        Names the first field that is missing, unknown or out of range.
    """
    place = record_path(path)
    try:
        document = yaml.safe_load(place.read_text(encoding="utf-8"))
        kind = EnsembleRecord if isinstance(document, dict) and "members" in document else MethodRecord
        found: Recipe = kind.model_validate(document)
    except OSError as error:
        raise RecordError(f"{place.name} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise RecordError(f"{place.name} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "record"
        raise RecordError(f"{place.name}: {field}: {first['msg']}") from error
    if found.id != place.stem:
        raise RecordError(f"{place.name}: id: {found.id} is not the name of the file")
    return found


def read_method(path: Path | str) -> MethodRecord:
    """A checked record of a single method.

    Raises
    ------
    RecordError
        If the record is not valid, or is that of an ensemble.
    """
    found = read_recipe(path)
    if isinstance(found, EnsembleRecord):
        raise RecordError(f"{found.id} is an ensemble; a single method is needed")
    return found


def is_volume_record(path: Path | str) -> bool:
    """Whether a record is that of a model of whole brain volumes (`models.making.brain`), not of pictures."""
    place = record_path(path)
    return place.is_file() and not place.read_text(encoding="utf-8").startswith("id:")


def record_path(record: Path | str) -> Path:
    """The file of a record that is given by its path or, shipped, by its id."""
    place = Path(record)
    return place if place.suffix else RECORDS / f"{place.name}.yaml"


def recipe_paths() -> tuple[Path, ...]:
    """Every shipped record of a method or an ensemble, by name."""
    return tuple(
        path for path in sorted(RECORDS.glob("*.yaml")) if path.read_text(encoding="utf-8").startswith("id:")
    )


def method_records() -> tuple[Path, ...]:
    """Every shipped record of a single method, by name."""
    return tuple(path for path in recipe_paths() if isinstance(read_recipe(path), MethodRecord))

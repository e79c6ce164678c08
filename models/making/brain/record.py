"""A method record: the declarative definition of what is trained, read and checked from YAML."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.artefact import Applicability, Head, InputContract, Source
from models.errors import RecordError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Section):
    """Optimiser and length: Adam, cosine decay to a hundredth of the rate.

    Attributes
    ----------
    steps, batch : int
    rate : float
    refresh : int
        Steps after which one training volume is augmented anew.
    select_every : int
        Steps between two checks on the toy set; the best one is kept.
    """

    steps: Count
    batch: Count
    rate: Annotated[float, Field(gt=0)]
    refresh: Count
    select_every: Count


class Patches(_Section):
    """Corruption of the context-encoding branch."""

    most: Count
    size: tuple[Share, Share]
    values: tuple[float, float]


class VariationalMember(_Section):
    """A ceVAE: loss (1 - f) (KL + L1) + f L1 of the corrupted branch, sums over pixels and codes."""

    type: Literal["cevae"]
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    latent: Count
    factor: Share
    reduction: Literal["sum"]
    corrupt: Patches
    train: Training


class DenoisingMember(_Section):
    """A U-Net that predicts coarse noise from a slice and its neighbours."""

    type: Literal["denoiser"]
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    cells: Annotated[tuple[Count, ...], Field(min_length=1)]
    sigma: Annotated[float, Field(gt=0)]
    reduction: Literal["sum"]
    train: Training


class Record(_Section):
    """The whole recipe of one artefact.

    Attributes
    ----------
    name, version : str
        Of the artefact.
    input : InputContract
        With start values; reference box and landmarks are measured on the training volumes.
    cevae, denoiser
        The two members that are networks.
    sources, heads
        Maps and members, as in the manifest.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: str
    licence: str
    disclaimer: str
    applicability: Applicability
    input: InputContract
    cevae: VariationalMember
    denoiser: DenoisingMember
    sources: dict[str, Source]
    heads: Annotated[dict[str, Head], Field(min_length=1)]
    erode_mm: Annotated[float, Field(ge=0)]
    top_mm3: Annotated[float, Field(gt=0)]
    min_region_mm3: Annotated[float, Field(gt=0)]
    toy_seed: int

    @model_validator(mode="after")
    def _grid_fits_networks(self) -> "Record":
        rows, columns = self.input.shape[1:]
        for name, depth in (("cevae", len(self.cevae.channels)), ("denoiser", len(self.denoiser.channels))):
            if rows % 2**depth or columns % 2**depth:
                raise ValueError(
                    f"input.shape: {rows} by {columns} cannot be halved {depth} times for {name}"
                )
        if 0 not in self.input.context:
            raise ValueError("input.context: the scored slice (0) is missing")
        for name, head in self.heads.items():
            if head.source not in self.sources:
                raise ValueError(f"heads.{name}.source: {head.source} is not among the sources")
        return self


def read_record(path: Path) -> Record:
    """A checked record.

    Raises
    ------
    RecordError
        Names the first field that is missing, unknown or out of range.
    """
    try:
        return Record.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise RecordError(f"{path.name} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "record"
        raise RecordError(f"{path.name}: {field}: {first['msg']}") from error

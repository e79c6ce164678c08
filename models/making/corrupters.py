"""The table of corrupters: what a branch may do to normal images."""

from typing import Annotated

from pydantic import Field

from models.making.corrupting import CoarseNoise, GaussianNoise, MaskPatches, NoCorruption
from models.making.synthesis import ForeignPatch, SoftBlobs, Spheres, Views

AnyCorrupter = Annotated[
    NoCorruption | GaussianNoise | MaskPatches | CoarseNoise | ForeignPatch | SoftBlobs | Spheres | Views,
    Field(discriminator="type"),
]

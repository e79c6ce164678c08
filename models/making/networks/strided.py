"""Strided convolutional encoders and decoders: U128, Z64, CE64, H64 and G32 differ in values only."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from models.making.networks.layers import Activation, Coordinates, NormName, activation, norm
from models.making.passes import Shape
from models.making.section import Count, Section, Share


class StridedEncoder(Section):
    """Convolutions of stride 2, each followed by norm, activation and dropout.

    Attributes
    ----------
    channels : tuple of int
        After each halving of the size.
    kernel : int
        3, 4 or 5.
    coordinates : bool
        Append row, column and slice position to the input.
    """

    type: Literal["strided"] = "strided"
    channels: Annotated[tuple[Count, ...], Field(min_length=1)]
    kernel: Literal[3, 4, 5] = 4
    norm: NormName = "none"
    activation: Activation = "leaky"
    dropout: Share = 0.0
    coordinates: bool = False

    def build(self, shape: Shape) -> "StridedDown":
        """The encoder for images of a shape.

        Raises
        ------
        ValueError
            If the size cannot be halved as often as there are channels.
        """
        return StridedDown(self, shape)


class StridedDown(nn.Module):
    """Image → feature map; ``inner`` is the feature map's shape."""

    def __init__(self, plan: StridedEncoder, shape: Shape) -> None:
        super().__init__()
        halvings = len(plan.channels)
        if shape.rows % 2**halvings or shape.columns % 2**halvings:
            raise ValueError(f"{shape.rows} by {shape.columns} cannot be halved {halvings} times")
        self.coordinates = Coordinates(shape.rows, shape.columns) if plan.coordinates else None
        entering = shape.channels + (Coordinates.CHANNELS if plan.coordinates else 0)
        blocks: list[nn.Module] = []
        for before, after in pairwise((entering, *plan.channels)):
            padding = (plan.kernel - 1) // 2
            blocks += [
                nn.Conv2d(before, after, plan.kernel, 2, padding, bias=plan.norm == "none"),
                norm(plan.norm, after),
                activation(plan.activation),
            ]
            if plan.dropout:
                blocks.append(nn.Dropout(plan.dropout))
        self.blocks = nn.Sequential(*blocks)
        self.inner = Shape(plan.channels[-1], shape.rows >> halvings, shape.columns >> halvings)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(batch, c, rows, columns) → (batch, *inner)."""
        if self.coordinates is not None:
            x = self.coordinates(x, position)
        found: Tensor = self.blocks(x)
        return found


class StridedDecoder(Section):
    """Transposed convolutions of stride 2, mirrored to an encoder, and a last linear layer.

    Attributes
    ----------
    channels : tuple of int
        Before the last layer: one number each doubling.
    final : str
        Activation of the image: ``none``, ``tanh`` or ``sigmoid``.
    """

    type: Literal["strided"] = "strided"
    channels: Annotated[tuple[Count, ...], Field(min_length=1)]
    kernel: Literal[3, 4, 5] = 4
    norm: NormName = "none"
    activation: Activation = "leaky"
    dropout: Share = 0.0
    final: Literal["none", "tanh", "sigmoid"] = "none"

    def build(self, inner: Shape, shape: Shape) -> "StridedUp":
        """The decoder from a feature map to images of a shape."""
        return StridedUp(self, inner, shape.channels)


class StridedUp(nn.Module):
    """Feature map → image."""

    def __init__(self, plan: StridedDecoder, inner: Shape, channels: int) -> None:
        super().__init__()
        padding = (plan.kernel - 1) // 2
        extra = plan.kernel % 2  # An odd kernel falls one short of doubling.
        blocks: list[nn.Module] = []
        for before, after in pairwise((inner.channels, *plan.channels)):
            blocks += [
                nn.ConvTranspose2d(before, after, plan.kernel, 2, padding, extra, bias=plan.norm == "none"),
                norm(plan.norm, after),
                activation(plan.activation),
            ]
            if plan.dropout:
                blocks.append(nn.Dropout(plan.dropout))
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Conv2d(plan.channels[-1], channels, 1), activation(plan.final))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, *inner) → (batch, channels, rows, columns)."""
        found: Tensor = self.last(self.blocks(features))
        return found

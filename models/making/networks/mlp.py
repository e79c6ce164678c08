"""Fully connected encoder and decoder for small images (Zimmerer's dissertation, section 3.1.4)."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from models.making.networks.layers import Activation, activation
from models.making.passes import Shape
from models.making.section import Count, Section


class MlpEncoder(Section):
    """Linear layers on the flat image, each with its activation.

    Attributes
    ----------
    widths : tuple of int
        Of each layer.
    """

    type: Literal["mlp"] = "mlp"
    widths: Annotated[tuple[Count, ...], Field(min_length=1)]
    activation: Activation = "relu"

    def build(self, shape: Shape) -> "MlpDown":
        """The encoder for images of a shape."""
        return MlpDown(self, shape)


class MlpDown(nn.Module):
    """Image → vector, as a feature map of one pixel."""

    def __init__(self, plan: MlpEncoder, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((shape.numel, *plan.widths)):
            layers += [nn.Linear(before, after), activation(plan.activation)]
        self.layers = nn.Sequential(*layers)
        self.inner = Shape(plan.widths[-1], 1, 1)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(batch, c, rows, columns) → (batch, width, 1, 1)."""
        del position
        found: Tensor = self.layers(x.flatten(1))
        return found[:, :, None, None]


class MlpDecoder(Section):
    """Mirrored linear layers and a last one to the image.

    Attributes
    ----------
    widths : tuple of int
        Between the feature vector and the image; empty for the last layer alone.
    final : str
        Activation of the image.
    """

    type: Literal["mlp"] = "mlp"
    widths: tuple[Count, ...] = ()
    activation: Activation = "relu"
    final: Literal["none", "tanh", "sigmoid"] = "sigmoid"

    def build(self, inner: Shape, shape: Shape) -> "MlpUp":
        """The decoder from a feature vector to images of a shape."""
        return MlpUp(self, inner, shape)


class MlpUp(nn.Module):
    """Vector → image."""

    def __init__(self, plan: MlpDecoder, inner: Shape, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = [activation(plan.activation)]
        for before, after in pairwise((inner.numel, *plan.widths)):
            layers += [nn.Linear(before, after), activation(plan.activation)]
        last = plan.widths[-1] if plan.widths else inner.numel
        self.layers = nn.Sequential(*layers, nn.Linear(last, shape.numel), activation(plan.final))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, width, 1, 1) → (batch, channels, rows, columns)."""
        found: Tensor = self.layers(features.flatten(1))
        image: Tensor = found.unflatten(1, tuple(self.shape))
        return image

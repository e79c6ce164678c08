"""Bodies of adversarial networks: DCGAN, G32 of GANomaly and U128 as a GAN differ in values alone."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from models.making.networks.attention import SelfAttention, spectral
from models.making.networks.layers import Activation, NormName, activation, norm
from models.making.passes import Shape
from models.making.section import Count, Section

SPREAD = 0.02  # Standard deviation of the first weights (Radford et al. 2016, section 4).


class DcganBody(Section):
    """Convolutions of stride 2 down to a small map, or transposed ones up from it.

    Attributes
    ----------
    channels : tuple of int
        From the largest map to the smallest, for both directions: one number each halving.
    norm : str
        Of every layer but the one at the image (Radford et al. 2016, section 3).
    spectral : bool
        Spectral norm of every weight.
    attention : tuple of int
        Self-attention behind these layers, counted from the image, 0 the first.
    """

    type: Literal["dcgan"] = "dcgan"
    channels: Annotated[tuple[Count, ...], Field(min_length=1)]
    kernel: Literal[4] = 4
    norm: NormName = "batch"
    activation: Activation = "leaky02"
    spectral: bool = False
    attention: tuple[int, ...] = ()

    def inner(self, shape: Shape) -> Shape:
        """The small map of images of a shape.

        Raises
        ------
        ValueError
            If the size cannot be halved so often.
        """
        halvings = len(self.channels)
        if shape.rows % 2**halvings or shape.columns % 2**halvings:
            raise ValueError(f"{shape.rows} by {shape.columns} cannot be halved {halvings} times")
        return Shape(self.channels[-1], shape.rows >> halvings, shape.columns >> halvings)

    def down(self, shape: Shape) -> nn.Module:
        """Image → small map."""
        blocks: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise((shape.channels, *self.channels))):
            name = "none" if number == 0 else self.norm
            layer = nn.Conv2d(before, after, self.kernel, 2, 1, bias=name == "none")
            blocks += [self._first(layer), norm(name, after), activation(self.activation)]
            if number in self.attention:
                blocks.append(SelfAttention(after))
        return nn.Sequential(*blocks)

    def up(self, shape: Shape) -> nn.Module:
        """Small map → image, before its last activation."""
        up = self.channels[::-1]
        blocks: list[nn.Module] = [norm(self.norm, up[0]), activation(self.activation)]
        for number, (before, after) in enumerate(pairwise(up)):
            layer = nn.ConvTranspose2d(before, after, self.kernel, 2, 1, bias=self.norm == "none")
            blocks += [self._first(layer), norm(self.norm, after), activation(self.activation)]
            if len(up) - 2 - number in self.attention:
                blocks.append(SelfAttention(after))
        blocks.append(self._first(nn.ConvTranspose2d(up[-1], shape.channels, self.kernel, 2, 1)))
        return nn.Sequential(*blocks)

    def _first(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
        nn.init.normal_(layer.weight, 0, SPREAD)
        return spectral(layer) if self.spectral else layer


class ResidualBody(Section):
    """Residual blocks of 3 by 3 convolutions (R64, WGAN-GP; Gulrajani et al. 2017, appendix F).

    Attributes
    ----------
    channels : tuple of int
        From the largest map to the smallest: of the stem, then one number each halving.
    norm : str
        ``layer`` for a critic with a gradient penalty, whose gradient is that of one image.
    """

    type: Literal["residual"] = "residual"
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    norm: NormName = "batch"

    def inner(self, shape: Shape) -> Shape:
        """The small map of images of a shape.

        Raises
        ------
        ValueError
            If the size cannot be halved so often.
        """
        halvings = len(self.channels) - 1
        if shape.rows % 2**halvings or shape.columns % 2**halvings:
            raise ValueError(f"{shape.rows} by {shape.columns} cannot be halved {halvings} times")
        return Shape(self.channels[-1], shape.rows >> halvings, shape.columns >> halvings)

    def down(self, shape: Shape) -> nn.Module:
        """Image → small map."""
        blocks: list[nn.Module] = [nn.Conv2d(shape.channels, self.channels[0], 3, 1, 1)]
        blocks += [_Block(before, after, self.norm, "down") for before, after in pairwise(self.channels)]
        return nn.Sequential(*blocks)

    def up(self, shape: Shape) -> nn.Module:
        """Small map → image, before its last activation."""
        up = self.channels[::-1]
        blocks: list[nn.Module] = [_Block(before, after, self.norm, "up") for before, after in pairwise(up)]
        blocks += [norm(self.norm, up[-1]), nn.ReLU(), nn.Conv2d(up[-1], shape.channels, 3, 1, 1)]
        return nn.Sequential(*blocks)


class _Block(nn.Module):
    """Norm, ReLU, convolution, twice, beside a 1 by 1 shortcut; the size changes within."""

    def __init__(self, before: int, after: int, name: NormName, way: Literal["down", "up"]) -> None:
        super().__init__()
        up = nn.Upsample(scale_factor=2) if way == "up" else nn.Identity()
        down = nn.AvgPool2d(2) if way == "down" else nn.Identity()
        # A critic widens in its second convolution, a generator narrows in its first, as in the source.
        middle = before if way == "down" else after
        self.long = nn.Sequential(
            norm(name, before),
            nn.ReLU(),
            up,
            nn.Conv2d(before, middle, 3, 1, 1),
            norm(name, middle),
            nn.ReLU(),
            nn.Conv2d(middle, after, 3, 1, 1),
            down,
        )
        self.short = nn.Sequential(up, nn.Conv2d(before, after, 1), down)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.long(features) + self.short(features)
        return found


AnyBody = Annotated[DcganBody | ResidualBody, Field(discriminator="type")]

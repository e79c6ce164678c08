"""Generator and critic that grow from 8 by 8 pixels to full size (Karras et al. 2018; 001, section 2.3).

Every convolution has an equalised learning rate, every layer of the generator a pixel norm.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.adversarial import Critic, Judgement
from models.making.passes import Code, Network, Output, Shape
from models.making.section import Count, Section

SLOPE = 0.2
SMALLEST = 1e-8


class EqualisedConv(nn.Module):
    """A convolution whose weight is drawn from N(0, 1) and scaled at run time (Karras 2018, section 4.1)."""

    def __init__(self, before: int, after: int, size: int, *, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, size, size))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scale = gain / math.sqrt(before * size * size)

    def forward(self, x: Tensor) -> Tensor:
        """Same size for odd kernels."""
        padding = self.weight.shape[-1] // 2
        return functional.conv2d(x, self.weight * self.scale, self.bias, padding=padding)


class EqualisedLinear(nn.Module):
    """A linear layer with an equalised learning rate."""

    def __init__(self, before: int, after: int, *, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scale = gain / math.sqrt(before)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before) → (batch, after)."""
        return functional.linear(x, self.weight * self.scale, self.bias)


def pixel_norm(features: Tensor) -> Tensor:
    """Every pixel's vector of channels at root mean square 1 (Karras 2018, section 4.2)."""
    return features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + SMALLEST)


def _active(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, SLOPE)


class Growing(Network):
    """A network with levels, each twice as fine as the one before; the last is full size.

    Attributes
    ----------
    level : int
        At which the network works now.
    alpha : float
        Share of the newest level against the one before, which fades out.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.level = levels - 1
        self.alpha = 1.0

    def grow(self, level: int, alpha: float) -> None:
        """Work at a level, of which a share has faded in."""
        self.level, self.alpha = level, alpha

    @property
    def fades(self) -> bool:
        """Whether the level before is still heard."""
        return self.level > 0 and self.alpha < 1


class ProgressiveGeneratorPlan(Section):
    """Code → image.

    Attributes
    ----------
    channels : tuple of int
        From the first map to full size; the first map is not an image, every other one can be.
    """

    type: Literal["progressive_generator"] = "progressive_generator"
    code: Count
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]

    def build(self, shape: Shape) -> "ProgressiveGenerator":
        """The network for images of a shape."""
        return ProgressiveGenerator(self, shape)


def first_map(channels: tuple[int, ...], shape: Shape) -> Shape:
    """The map from which a generator grows, and at which a critic ends.

    Raises
    ------
    ValueError
        If the size cannot be halved so often.
    """
    halvings = len(channels) - 1
    if shape.rows % 2**halvings or shape.columns % 2**halvings:
        raise ValueError(f"{shape.rows} by {shape.columns} cannot be halved {halvings} times")
    return Shape(channels[0], shape.rows >> halvings, shape.columns >> halvings)


class ProgressiveGenerator(Growing):
    """Code → image of the present level's size."""

    def __init__(self, plan: ProgressiveGeneratorPlan, shape: Shape) -> None:
        wide = plan.channels
        super().__init__(len(wide) - 1)
        self.code_shape = (plan.code,)
        self.inner = first_map(wide, shape)
        self.enter = EqualisedLinear(plan.code, self.inner.numel)
        self.first = nn.ModuleList(EqualisedConv(wide[i], wide[i + 1], 3) for i in range(self.levels))
        self.second = nn.ModuleList(EqualisedConv(wide[i + 1], wide[i + 1], 3) for i in range(self.levels))
        self.images = nn.ModuleList(EqualisedConv(c, shape.channels, 1, gain=1.0) for c in wide[1:])

    def decode(self, z: Tensor) -> Tensor:
        """(batch, code) → (batch, channels, rows, columns) of the present level."""
        features = pixel_norm(_active(self.enter(z)).unflatten(1, tuple(self.inner)))
        doubled = features
        for number in range(self.level + 1):
            doubled = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = pixel_norm(_active(self.first[number](doubled)))
            features = pixel_norm(_active(self.second[number](features)))
        image: Tensor = self.images[self.level](features)
        if self.fades:
            image = self.alpha * image + (1 - self.alpha) * self.images[self.level - 1](doubled)
        return image

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Images of drawn codes, or of the code 0."""
        del position
        z = torch.randn(len(x), *self.code_shape, device=x.device)
        z = z if sample else torch.zeros_like(z)
        return Output(image=self.decode(z), code=Code(z=z))


class ProgressiveCriticPlan(Section):
    """Image → logit, features and code: the three roles of GANomaly's critic, growing.

    Attributes
    ----------
    channels : tuple of int
        As of the generator, from the smallest map to full size.
    """

    type: Literal["progressive_critic"] = "progressive_critic"
    code: Count
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]

    def build(self, shape: Shape) -> "ProgressiveCritic":
        """The network for images of a shape."""
        return ProgressiveCritic(self, shape)


class ProgressiveCritic(Growing, Critic):
    """Image of the present level's size → logit, features and code."""

    def __init__(self, plan: ProgressiveCriticPlan, shape: Shape) -> None:
        wide = plan.channels
        super().__init__(len(wide) - 1)
        width = first_map(wide, shape).numel
        self.images = nn.ModuleList(EqualisedConv(shape.channels, c, 1) for c in wide[1:])
        self.first = nn.ModuleList(EqualisedConv(wide[i + 1], wide[i + 1], 3) for i in range(self.levels))
        self.second = nn.ModuleList(EqualisedConv(wide[i + 1], wide[i], 3) for i in range(self.levels))
        self.code = EqualisedLinear(width, plan.code, gain=1.0)
        self.leave = EqualisedLinear(width, 1, gain=1.0)

    def _features(self, x: Tensor) -> Tensor:
        features = _active(self.images[self.level](x))
        for number in range(self.level, -1, -1):
            features = _active(self.second[number](_active(self.first[number](features))))
            features = functional.avg_pool2d(features, 2)
            if number == self.level and self.fades:
                coarse = _active(self.images[self.level - 1](functional.avg_pool2d(x, 2)))
                features = self.alpha * features + (1 - self.alpha) * coarse
        return features.flatten(1)

    def judge(self, *given: Tensor) -> Judgement:
        """Judgement of (batch, channels, rows, columns) of the present level."""
        (x,) = given
        features = self._features(x)
        return Judgement(self.leave(features)[:, 0], features)

    def encode(self, x: Tensor, position: Tensor, *, sample: bool = False) -> Code:
        """Code of (batch, channels, rows, columns) of the present level."""
        del position, sample
        return Code(z=self.code(self._features(x)))

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Logit and features."""
        del position, sample
        logit, features = self.judge(x)
        return Output(logit=logit, features=features)

"""A U-Net with its variants: dropout on skips, folded pixels, coordinates, its own pixel variances.

Ronneberger et al. 2015; skips with dropout after Baur 2021, dissertation, section 3.4.3.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.layers import (
    Activation,
    BankedDropout,
    Coordinates,
    NormName,
    activation,
    norm,
)
from models.making.passes import Network, Output, Shape
from models.making.section import Count, Section, Share


class UNetPlan(Section):
    """Two convolutions a scale, max-pooling down, nearest neighbour up.

    Attributes
    ----------
    channels : tuple of int
        Of each scale, the finest first.
    skips : bool
        Join each scale of the way down to that of the way up.
    skip_dropout : float
        Share of a skip's channels dropped while training.
    coordinates : bool
        Append row, column and slice position to the input.
    fold : int
        Pixels folded into channels on entering and unfolded on leaving, so that context is cheap.
    answers : int, optional
        Channels of the answer; those of the image unless given.
    uncertain : bool
        Answer the log variance of every pixel too.
    """

    type: Literal["unet"] = "unet"
    channels: Annotated[tuple[Count, ...], Field(min_length=2)]
    norm: NormName = "batch"
    activation: Activation = "leaky"
    skips: bool = True
    skip_dropout: Share = 0.0
    coordinates: bool = False
    fold: Literal[1, 2, 4] = 1
    answers: Count | None = None
    uncertain: bool = False

    def build(self, shape: Shape) -> "UNet":
        """The network for images of a shape.

        Raises
        ------
        ValueError
            If the size cannot be folded and halved as often as asked for.
        """
        return UNet(self, shape)


class UNet(Network):
    """Image → image of the same size."""

    LIMIT = 10.0  # Log variances of pixels stay within plus and minus this.

    def __init__(self, plan: UNetPlan, shape: Shape) -> None:
        super().__init__()
        step = plan.fold * 2 ** (len(plan.channels) - 1)
        if shape.rows % step or shape.columns % step:
            raise ValueError(f"{shape.rows} by {shape.columns} is no multiple of {step}")
        self.plan = plan
        folded = plan.fold**2
        rows, columns = shape.rows // plan.fold, shape.columns // plan.fold
        self.coordinates = Coordinates(rows, columns) if plan.coordinates else None
        entering = shape.channels * folded + (Coordinates.CHANNELS if plan.coordinates else 0)
        answers = (plan.answers or shape.channels) * (2 if plan.uncertain else 1)
        widths = plan.channels
        self.enter = self._block(entering, widths[0])
        self.down = nn.ModuleList(self._block(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            self._block(below + (here if plan.skips else 0), here)
            for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.drop = nn.ModuleList(BankedDropout(plan.skip_dropout, channels=True) for _ in widths[1:])
        self.leave = nn.Conv2d(widths[0], answers * folded, 1)

    def _block(self, before: int, after: int) -> nn.Sequential:
        plan = self.plan
        layers: list[nn.Module] = []
        for entering in (before, after):
            layers += [
                nn.Conv2d(entering, after, 3, padding=1, bias=plan.norm == "none"),
                norm(plan.norm, after),
                activation(plan.activation),
            ]
        return nn.Sequential(*layers)

    def pyramid(self, x: Tensor, position: Tensor) -> list[Tensor]:
        """Feature maps of every scale on the way down, the finest first."""
        hidden = functional.pixel_unshuffle(x, self.plan.fold) if self.plan.fold > 1 else x
        if self.coordinates is not None:
            hidden = self.coordinates(hidden, position)
        hidden = self.enter(hidden)
        found = [hidden]
        for block in self.down:
            hidden = block(functional.max_pool2d(hidden, 2))
            found.append(hidden)
        return found

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Image, and its log variance where the plan asks for it."""
        del sample
        kept = self.pyramid(x, position)
        hidden = kept.pop()
        for block, drop in zip(self.up, self.drop, strict=True):
            hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            skip = kept.pop()
            hidden = block(torch.cat([hidden, drop(skip)], dim=1) if self.plan.skips else hidden)
        found = self.leave(hidden)
        if self.plan.fold > 1:
            found = functional.pixel_shuffle(found, self.plan.fold)
        if not self.plan.uncertain:
            return Output(image=found)
        image, log_scale = found.chunk(2, dim=1)
        return Output(image=image, log_scale=log_scale.clamp(-self.LIMIT, self.LIMIT))

"""Layers that several networks are made of, by the names that records use."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

NormName = Literal["none", "batch", "layer", "instance", "group"]
Activation = Literal["relu", "leaky", "leaky02", "leaky03", "elu", "silu", "tanh", "sigmoid", "none"]
_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": partial(nn.LeakyReLU, 0.01),
    "leaky02": partial(nn.LeakyReLU, 0.2),
    "leaky03": partial(nn.LeakyReLU, 0.3),
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}
GROUPS = 8  # Of a group norm; fewer where the channels ask for it.


def activation(name: Activation) -> nn.Module:
    """Activation by name; the digits of ``leaky`` are its slope in tenths, plain ``leaky`` is 0.01."""
    return _ACTIVATIONS[name]()


def norm(name: NormName, channels: int) -> nn.Module:
    """Normalisation of a (batch, channels, rows, columns) map by name."""
    match name:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "group":
            return nn.GroupNorm(next(n for n in range(GROUPS, 0, -1) if channels % n == 0), channels)


class Coordinates(nn.Module):
    """Appends row, column and slice position, each -1 to 1, as channels (CoordConv; Liu et al. 2018).

    Parameters
    ----------
    rows, columns : int
        Fixed size of the grid.
    """

    CHANNELS = 3
    grid: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        y = torch.linspace(-1, 1, rows)[:, None].expand(rows, columns)
        x = torch.linspace(-1, 1, columns)[None, :].expand(rows, columns)
        self.register_buffer("grid", torch.stack([y, x])[None].contiguous(), persistent=False)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(batch, c, rows, columns) and (batch,) → (batch, c + 3, rows, columns)."""
        plane = self.grid.to(x.dtype).expand(x.shape[0], -1, -1, -1)
        height = position.to(x.dtype)[:, None, None, None].expand(-1, 1, x.shape[2], x.shape[3])
        return torch.cat([x, plane, height], dim=1)


class BankedDropout(nn.Module):
    """Dropout that can be asked for one of a fixed bank of masks, for Monte Carlo scores without randomness.

    Parameters
    ----------
    share : float
        Of what is dropped.
    channels : bool
        Drop whole channels of a map.
    """

    def __init__(self, share: float, *, channels: bool = False) -> None:
        super().__init__()
        self.share, self.channels = share, channels
        self.bank: Tensor | None = None
        self.draw: int | None = None

    def prepare(self, shape: tuple[int, ...], draws: int, generator: torch.Generator) -> None:
        """Make so many masks for samples of a shape."""
        kept = torch.rand(
            (draws, *shape[:1], 1, 1) if self.channels else (draws, *shape), generator=generator
        )
        self.bank = (kept >= self.share).float() / (1 - self.share)

    def forward(self, x: Tensor) -> Tensor:
        """Dropout while training; one mask of the bank where one is asked for; else ``x``."""
        if self.training and self.share:
            return (
                nn.functional.dropout2d(x, self.share)
                if self.channels
                else nn.functional.dropout(x, self.share)
            )
        if self.bank is None or self.draw is None:
            return x
        return x * self.bank[self.draw]

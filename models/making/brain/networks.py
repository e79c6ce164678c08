"""The two networks: a variational autoencoder with a dense neck, and a denoising U-Net with slice context."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.making.brain.layers import Coordinates, double_conv, strided_down, strided_up


class VariationalAutoencoder(nn.Module):
    """Strided encoder, dense Gaussian neck with log-variance, mirrored decoder.

    Parameters
    ----------
    size : tuple of int
        Rows and columns, multiples of two to the power of the number of channels.
    channels : tuple of int
        After each halving.
    latent : int
        Length of the code.
    """

    def __init__(self, *, size: tuple[int, int], channels: tuple[int, ...], latent: int) -> None:
        super().__init__()
        factor = 2 ** len(channels)
        self.inner = (channels[-1], size[0] // factor, size[1] // factor)
        features = self.inner[0] * self.inner[1] * self.inner[2]
        self.coordinates = Coordinates(*size)
        widths = (4, *channels)  # the slice and three coordinates
        self.down = nn.Sequential(*[strided_down(a, b) for a, b in zip(widths, channels, strict=False)])
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)
        self.expand = nn.Linear(latent + 1, features)
        backwards = (*reversed(channels), 1)
        last = len(channels) - 1
        self.up = nn.Sequential(
            *[strided_up(a, b, is_last=i == last) for i, (a, b) in enumerate(pairwise(backwards))]
        )

    def encode(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 1, rows, columns) → mean and log-variance, each (batch, latent)."""
        features = self.down(self.coordinates(x, position)).flatten(1)
        return self.mean(features), self.log_variance(features)

    def decode(self, code: Tensor, position: Tensor) -> Tensor:
        """(batch, latent) → (batch, 1, rows, columns). The slice position is given, not encoded."""
        hidden = self.expand(torch.cat([code, position.to(code.dtype)[:, None]], dim=1))
        result: Tensor = self.up(hidden.unflatten(1, self.inner))
        return result


class Denoiser(nn.Module):
    """U-Net on folded pixels: 2 by 2 pixels become channels, so that context is cheap.

    Predicts what was added to the middle slice of the context.

    Parameters
    ----------
    size : tuple of int
        Rows and columns, multiples of two to the power of the number of channels.
    context : int
        Slices given as channels.
    channels : tuple of int
        Of each scale.
    """

    FOLD = 2

    def __init__(self, *, size: tuple[int, int], context: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        folded = self.FOLD**2
        self.coordinates = Coordinates(size[0] // self.FOLD, size[1] // self.FOLD)
        self.enter = double_conv(context * folded + 3, channels[0])
        self.down = nn.ModuleList(double_conv(a, b) for a, b in pairwise(channels))
        self.up = nn.ModuleList(
            double_conv(a + b, a) for a, b in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )
        self.leave = nn.Conv2d(channels[0], folded, 1)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(batch, context, rows, columns) → (batch, 1, rows, columns), added to the middle slice."""
        hidden = self.enter(self.coordinates(functional.pixel_unshuffle(x, self.FOLD), position))
        kept = [hidden]
        for block in self.down:
            hidden = block(functional.max_pool2d(hidden, 2))
            kept.append(hidden)
        kept.pop()
        for block in self.up:
            hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(torch.cat([kept.pop(), hidden], dim=1))
        return functional.pixel_shuffle(self.leave(hidden), self.FOLD)

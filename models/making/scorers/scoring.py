"""What every scorer is: a module without randomness that gives scores, higher is more abnormal."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.making.passes import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores of a batch.

    Attributes
    ----------
    image : (batch,), optional
        The scorer's own score of an image; where it is missing the map is aggregated.
    pixel : (batch, 1, rows, columns), optional
    reconstruction : (batch, channels, rows, columns), optional
        In the network's units.
    """

    image: Tensor | None = None
    pixel: Tensor | None = None
    reconstruction: Tensor | None = None


Normals = Callable[[], Iterable[Batch]]
"""Gives the training normals, un-augmented, batch after batch, as often as it is called."""


class Scorer(nn.Module):
    """Images → scores. Constants that depend on normals are buffers set by ``fit``."""

    def fit(self, normals: Normals) -> None:
        """Set the constants that depend on normals; nothing by default."""
        del normals

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        """Scores of (batch, channels, rows, columns), mask (batch, 1, rows, columns), position (batch,)."""
        raise NotImplementedError


class Smoothing(nn.Module):
    """Gaussian blur of each channel, the border repeated; along rows, then along columns.

    Parameters
    ----------
    sigma : float
        Pixels; 0 leaves the map as it is.
    """

    line: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.radius = int(3 * sigma + 0.5)
        line = torch.ones(1)
        if self.radius:
            line = torch.exp(-0.5 * (torch.arange(-self.radius, self.radius + 1) / sigma) ** 2)
        self.register_buffer("line", line / line.sum())

    def forward(self, plane: Tensor) -> Tensor:
        """(batch, channels, rows, columns) → the same."""
        if not self.radius:
            return plane
        channels = plane.shape[1]
        edged = functional.pad(plane, [self.radius] * 4, mode="replicate")
        across = functional.conv2d(
            edged, self.line[None, None, None].expand(channels, 1, 1, -1), groups=channels
        )
        return functional.conv2d(
            across, self.line[None, None, :, None].expand(channels, 1, -1, 1), groups=channels
        )

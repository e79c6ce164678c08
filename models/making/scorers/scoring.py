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


def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """Normalised Gaussian, shape (1, 1, size, size)."""
    line = torch.exp(-0.5 * ((torch.arange(size) - size // 2) / sigma) ** 2)
    plane = line[:, None] * line[None, :]
    return (plane / plane.sum())[None, None]


class Smoothing(nn.Module):
    """Gaussian blur of a one-channel map, the border repeated.

    Parameters
    ----------
    sigma : float
        Pixels; 0 leaves the map as it is.
    """

    kernel: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.radius = int(3 * sigma + 0.5)
        size = 2 * self.radius + 1
        self.register_buffer(
            "kernel", gaussian_kernel(size, sigma) if self.radius else torch.ones(1, 1, 1, 1)
        )

    def forward(self, plane: Tensor) -> Tensor:
        """(batch, 1, rows, columns) → the same."""
        if not self.radius:
            return plane
        edges = [self.radius] * 4
        return functional.conv2d(functional.pad(plane, edges, mode="replicate"), self.kernel)

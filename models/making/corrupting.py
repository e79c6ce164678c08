"""What is done to normal images so that a network learns to undo or to find it."""

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from models.making.passes import Batch
from models.making.section import Count, Positive, Section, Share


class Corrupted(NamedTuple):
    """What the network is given and what it should answer, both (batch, channels, rows, columns)."""

    given: Tensor
    target: Tensor


class NoCorruption(Section):
    """The clean image, to be returned as it is."""

    type: Literal["none"] = "none"

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target."""
        return Corrupted(batch.x, batch.x)


class GaussianNoise(Section):
    """Independent noise on every pixel (denoising autoencoder; Vincent et al. 2010)."""

    type: Literal["gaussian"] = "gaussian"
    sigma: Positive

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target."""
        return Corrupted(batch.x + self.sigma * torch.randn_like(batch.x), batch.x)


class MaskPatches(Section):
    """Rectangles of random place and size, filled with a grey value: context encoding.

    Each image has its own patches (public code once gave the last image's to all of a batch).

    Attributes
    ----------
    most : int
        One to this many patches.
    size : tuple of float
        Edge lengths as a share of the image's edge.
    values : tuple of float
        Range of the grey value, the same number twice for a fixed one.
    """

    type: Literal["mask"] = "mask"
    most: Count = 3
    size: tuple[Share, Share] = (0.05, 0.5)
    values: tuple[float, float] = (0.0, 1.0)

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target; the target is the clean image."""
        x = batch.x
        n, _, rows, columns = x.shape
        y = torch.arange(rows, device=x.device)[None, :, None]
        c = torch.arange(columns, device=x.device)[None, None, :]
        count = torch.randint(1, self.most + 1, (n, 1, 1), device=x.device)
        for i in range(self.most):
            height = uniform(*self.size, (n, 1, 1), x) * rows
            width = uniform(*self.size, (n, 1, 1), x) * columns
            top = uniform(0, 1, (n, 1, 1), x) * (rows - height)
            left = uniform(0, 1, (n, 1, 1), x) * (columns - width)
            inside = (y >= top) & (y < top + height) & (c >= left) & (c < left + width) & (count > i)
            x = torch.where(inside[:, None], uniform(*self.values, (n, 1, 1, 1), x), x)
        return Corrupted(x, batch.x)


class CoarseNoise(Section):
    """A smooth random field added to the image (coarse-noise denoising; Kascenas et al. 2022).

    Attributes
    ----------
    sigma : float
        Standard deviation of the field's nodes.
    cells : tuple of int
        Distances of the nodes in pixels; one is drawn for each batch.
    target : str
        ``clean``: the network returns the image; ``noise``: it returns what was added.
    """

    type: Literal["coarse"] = "coarse"
    sigma: Positive = 0.2
    cells: Annotated[tuple[Count, ...], Field(min_length=1)] = (8,)
    target: Literal["clean", "noise"] = "clean"

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target."""
        x = batch.x
        cell = self.cells[int(torch.randint(len(self.cells), (1,)))]
        noise = self.sigma * coarse_field(x, cell) * batch.mask
        return Corrupted(x + noise, noise if self.target == "noise" else x)


def uniform(low: float, high: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uniform numbers on the device of ``like``."""
    return low + (high - low) * torch.rand(shape, device=like.device)


def coarse_field(x: Tensor, cell: int) -> Tensor:
    """Gaussian nodes every ``cell`` pixels at a random phase, bilinear between them; the shape of ``x``."""
    n, channels, rows, columns = x.shape
    nodes = torch.randn((n, channels, rows // cell + 3, columns // cell + 3), device=x.device)
    plane = functional.interpolate(nodes, scale_factor=float(cell), mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(cell, (1,))) + cell // 2 for _ in range(2))
    return plane[:, :, top : top + rows, left : left + columns]

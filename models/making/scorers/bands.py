"""Band-pass filters in place of a network, and at each pixel the Gaussian of normals.

After Defard et al. 2021 (PaDiM), whose features come from a network trained on photographs. Differences of
Gaussians (Marr and Hildreth 1980) need no training and see what is small and sharp, which an autoencoder's
bottleneck does not keep.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.making.scorers.scoring import Normals, Scored, Scorer, Smoothing
from models.making.section import NotNegative, Positive, Section

ENERGY_FLOOR = 1e-5  # Squared pixel units: a flat place has a finite logarithm.
ENERGY_WEIGHT = (
    0.1  # Brings the logarithm to the size of the bands themselves, so that one floor serves both.
)
WEIGHT_FLOOR = 1e-6  # Of a pixel outside every mask.


class BandDensity(Section):
    """Mahalanobis distance of a pixel's band responses from those of normals around the same place.

    Attributes
    ----------
    sigmas : tuple of float
        Blurs in pixels, rising, 0 the picture itself; a band is the difference of neighbours.
    lowest : bool
        Keep the widest blur as a feature: sees shape and brightness.
    energy : float
        Blur in pixels of the squared bands, whose logarithm joins the features: sees texture; 0: none.
    pool : float
        Blur in pixels of mean and covariance: how far normals are misaligned.
    floor : float
        Share of a feature's median variance that is added to its variance at each place.
    """

    type: Literal["bands"] = "bands"
    sigmas: Annotated[tuple[NotNegative, ...], Field(min_length=2)]
    lowest: bool = False
    energy: NotNegative = 0.0
    pool: Positive
    floor: Positive = 0.1

    @model_validator(mode="after")
    def _rise(self) -> "BandDensity":
        if any(a >= b for a, b in pairwise(self.sigmas)):
            raise ValueError("sigmas must rise")
        return self

    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer."""
        del networks
        return _BandDensity(self)


class _BandDensity(Scorer):
    """The buffers' shapes follow from the normals, so they are empty until ``fit``."""

    mean: Tensor
    factor: Tensor

    def __init__(self, plan: BandDensity) -> None:
        super().__init__()
        self.plan = plan
        self.blurs = nn.ModuleList(Smoothing(sigma) for sigma in plan.sigmas)
        self.energy = Smoothing(plan.energy)
        self.pool = Smoothing(plan.pool)
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("factor", torch.zeros(0))

    def _features(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns) → (batch, features, rows, columns)."""
        blurred = [blur(x) for blur in self.blurs]
        found = [fine - coarse for fine, coarse in pairwise(blurred)]
        if self.plan.energy:
            found += [ENERGY_WEIGHT * (self.energy(band**2) + ENERGY_FLOOR).log() for band in list(found)]
        if self.plan.lowest:
            found.append(blurred[-1])
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def fit(self, normals: Normals) -> None:
        """Set mean and whitening factor of each pixel; two passes, as one loses digits."""
        weight, first = torch.zeros(0), torch.zeros(0)
        for batch in normals():
            here = (batch.mask + WEIGHT_FLOOR).sum(0, keepdim=True)
            sums = (self._features(batch.x) * (batch.mask + WEIGHT_FLOOR)).sum(0, keepdim=True)
            weight, first = (weight + here, first + sums) if weight.numel() else (here, sums)
        pooled = self.pool(weight)
        mean = self.pool(first) / pooled
        count = mean.shape[1]
        product = torch.zeros(count * (count + 1) // 2, *mean.shape[2:])
        rows, columns = torch.tril_indices(count, count)
        for batch in normals():
            away = self._features(batch.x) - mean
            for one, mask in zip(away, batch.mask + WEIGHT_FLOOR, strict=True):
                product += one[rows] * one[columns] * mask
        packed = (self.pool(product[None]) / pooled)[0]
        covariance = torch.zeros(*mean.shape[2:], count, count, dtype=torch.float64)
        covariance[..., rows, columns] = packed.movedim(0, -1).double()
        covariance[..., columns, rows] = covariance[..., rows, columns]
        deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        typical = deviation.flatten(0, 1).median(dim=0).values ** 2 + 1e-9
        covariance += self.plan.floor * torch.diag(typical)
        # The inverse of the lower factor, row after row: |L⁻¹ a|² is the squared distance.
        inverse = torch.linalg.inv(torch.linalg.cholesky(covariance))
        self.mean = mean
        self.factor = inverse[..., rows, columns].movedim(-1, 0).float()

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask, position
        found = self._features(x)
        if not self.factor.numel():  # not fitted: the shapes are right, the distance is that from zero
            return Scored(pixel=(found**2).sum(dim=1, keepdim=True).sqrt())
        away = found - self.mean
        squared = torch.zeros_like(away[:, :1])
        start = 0
        for width in range(1, away.shape[1] + 1):  # row by row: the whole product would hold features² planes
            row = (away[:, :width] * self.factor[start : start + width]).sum(dim=1, keepdim=True)
            squared = squared + row**2
            start += width
        return Scored(pixel=squared.sqrt())

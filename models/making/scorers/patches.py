"""Patch features of a network trained on normals, and at each place the Gaussian of normals.

After Defard et al. 2021 (PaDiM), with features learned on the normals themselves, as no weights trained on
photographs are needed or shipped.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.autoencoder import Autoencoder
from models.making.scorers.scoring import Normals, Scored, Scorer
from models.making.section import NotNegative, Positive, Section


class PatchDensity(Section):
    """Mahalanobis distance of each place's features from those of normals at the same place.

    Attributes
    ----------
    network : str
        An autoencoder; the features are its encoder's map.
    shrink : float
        Weight of the covariance over all places against that of the place, in normals.
    floor : float
        Share of the mean variance that is added to every variance.
    """

    type: Literal["patches"] = "patches"
    network: str
    shrink: Positive = 50.0
    floor: NotNegative = 0.05

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If the network is not an autoencoder.
        """
        network = networks[self.network]
        if not isinstance(network, Autoencoder):
            raise TypeError(f"{self.network} is not an autoencoder")
        return _PatchDensity(self, network)


class _PatchDensity(Scorer):
    mean: Tensor
    precision: Tensor

    def __init__(self, plan: PatchDensity, network: Autoencoder) -> None:
        super().__init__()
        self.plan = plan
        self.network = network
        inner = network.encoder.inner
        places = inner.rows * inner.columns
        self.register_buffer("mean", torch.zeros(places, inner.channels))
        self.register_buffer("precision", torch.eye(inner.channels).repeat(places, 1, 1))

    def _features(self, x: Tensor, position: Tensor) -> Tensor:
        """(batch, places, channels)."""
        found: Tensor = self.network.encoder(x, position)
        return found.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def fit(self, normals: Normals) -> None:
        found = torch.cat([self._features(batch.x, batch.position) for batch in normals()]).double()
        mean = found.mean(dim=0)
        away = found - mean
        local = torch.einsum("npc,npd->pcd", away, away)
        common = local.mean(dim=0, keepdim=True) / len(found)
        covariance = (local + self.plan.shrink * common) / (len(found) + self.plan.shrink)
        variance = covariance.diagonal(dim1=1, dim2=2).mean().clamp(min=1e-12)
        covariance += self.plan.floor * variance * torch.eye(covariance.shape[-1], dtype=torch.float64)
        self.mean.copy_(mean)
        # The inverse of the lower factor: |L⁻¹ a|² is the squared distance.
        self.precision.copy_(torch.linalg.inv(torch.linalg.cholesky(covariance)))

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        away = self._features(x, position) - self.mean
        scaled = torch.einsum("pcd,npd->npc", self.precision, away)
        distance = (scaled**2).mean(dim=2).sqrt()
        inner = self.network.encoder.inner
        plane = distance.unflatten(1, (1, inner.rows, inner.columns))
        factor = float(x.shape[2] // inner.rows)
        return Scored(pixel=functional.interpolate(plane, scale_factor=factor, mode="bilinear"))

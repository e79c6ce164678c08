"""Gradient scorers: which pixels would have to change for the network to be less surprised.

Zimmerer's dissertation, sections 3.1.3 and 3.2.4, eq. 3.6 to 3.14. The gradient is taken inside the graph.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from models.making.objectives.divergence import kl_divergence
from models.making.passes import Network, network_of
from models.making.scorers.scoring import Normals, Scored, Scorer, Smoothing
from models.making.section import NotNegative, Section

SCALE_QUANTILE = 0.999


class VariationalGradient(Section):
    """Scores of a variational autoencoder from its reconstruction error and its KL term.

    Attributes
    ----------
    map : str
        ``rec``, ``kl`` or ``elbo``: absolute gradient of that term at the image; ``combi``: residual times
        the KL gradient, scaled by its 99.9th percentile on normals.
    image : str
        ``rec``, ``kl`` or ``elbo``.
    distance : str
        Of the reconstruction term.
    smooth : float
        Sigma of the blur of the gradient, pixels; part of the score, as stride-2 kernels leave a
        checkerboard.
    log_c : float
        Log of the decoder's standard deviation c; the reconstruction term is divided by 2 c squared for
        ``l2`` and by c for ``l1``.
    """

    type: Literal["variational"] = "variational"
    network: str
    map: Literal["rec", "kl", "elbo", "combi"] = "combi"
    image: Literal["rec", "kl", "elbo"] = "elbo"
    distance: Literal["l1", "l2"] = "l1"
    smooth: NotNegative = 1.0
    log_c: float = 0.0

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Variational(self, network_of(networks, self.network))


class _Variational(Scorer):
    gradient_scale: Tensor

    def __init__(self, plan: VariationalGradient, network: Network) -> None:
        super().__init__()
        self.plan = plan
        self.network = network
        self.smoothing = Smoothing(plan.smooth)
        self.register_buffer("gradient_scale", torch.tensor(1.0))

    def fit(self, normals: Normals) -> None:
        if self.plan.map != "combi":
            return
        found = []
        for batch in normals():
            gradient = self._gradient(batch.x, batch.position, "kl")[0]
            found.append(gradient[batch.mask > 0])
        self.gradient_scale.fill_(quantile(torch.cat(found), SCALE_QUANTILE).clamp(min=1e-12))

    def _terms(self, x: Tensor, position: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        found = self.network.run(x, position, sample=False)
        if found.image is None or found.code is None:
            raise TypeError("a variational score needs a network with a reconstruction and a code")
        reconstruction = found.image
        kl = kl_divergence(found.code)
        wrong = (x - reconstruction).flatten(1)
        scale: Tensor = torch.exp(torch.tensor(-self.plan.log_c))
        rec = wrong.abs().sum(1) * scale if self.plan.distance == "l1" else (wrong**2).sum(1) * scale**2 / 2
        return {"rec": rec, "kl": kl, "elbo": rec + kl}, reconstruction

    def _gradient(
        self, x: Tensor, position: Tensor, of: Literal["rec", "kl", "elbo"]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        def total(image: Tensor) -> tuple[Tensor, tuple[dict[str, Tensor], Tensor]]:
            terms, reconstruction = self._terms(image, position)
            return terms[of].sum(), (terms, reconstruction)

        gradient_of: Callable[[Tensor], tuple[Tensor, tuple[dict[str, Tensor], Tensor]]]
        gradient_of = torch.func.grad(total, has_aux=True)
        gradient, (terms, reconstruction) = gradient_of(x)
        return self.smoothing(gradient.abs().mean(dim=1, keepdim=True)), terms, reconstruction

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        plan = self.plan
        gradient, terms, reconstruction = self._gradient(
            x, position, "kl" if plan.map == "combi" else plan.map
        )
        pixel = gradient
        if plan.map == "combi":
            pixel = (x - reconstruction).abs().mean(dim=1, keepdim=True) * gradient / self.gradient_scale
        return Scored(image=terms[plan.image], pixel=pixel, reconstruction=reconstruction)


def quantile(values: Tensor, share: float) -> Tensor:
    """Quantile of any number of values (``torch.quantile`` takes no more than sixteen million)."""
    rank = min(values.numel() - 1, int(share * values.numel()))
    return values.flatten().kthvalue(rank + 1).values

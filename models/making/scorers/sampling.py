"""Scores from several draws of the code, with a fixed bank of noise so that an image has one score.

Baur et al. 2021, comparative study, section III-J; Zimmerer's dissertation, Table 3.2 (sampling variance).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.autoencoder import Autoencoder
from models.making.objectives.divergence import kl_divergence
from models.making.scorers.scoring import Scored, Scorer
from models.making.section import Section

BANK_SEED = 11
MOST_DRAWS = 16


class Sampling(Section):
    """Mean residual over draws of a variational code, or how much the draws differ.

    Attributes
    ----------
    draws : int
        2 to 16.
    map : str
        ``mean``: mean of |x - x'| over the draws; ``variance``: variance of x' over the draws.
    """

    type: Literal["sampling"] = "sampling"
    network: str
    draws: Literal[2, 4, 8, 16] = 8
    map: Literal["mean", "variance"] = "mean"

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
        return _Sampling(self, network)


class _Sampling(Scorer):
    bank: Tensor

    def __init__(self, plan: Sampling, network: Autoencoder) -> None:
        super().__init__()
        self.plan = plan
        self.network = network
        size = network.code_shape
        generator = torch.Generator().manual_seed(BANK_SEED)
        self.register_buffer("bank", torch.randn((plan.draws, *size), generator=generator))

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        code = self.network.encode(x, position)
        if code.mean is None or code.log_variance is None:
            raise TypeError("sampling needs a neck with a Gaussian posterior")
        deviation = (0.5 * code.log_variance).exp()
        drawn = torch.stack([self.network.decode(code.mean + deviation * noise) for noise in self.bank])
        wrong = (x - drawn).abs()
        plane = wrong.mean(dim=0) if self.plan.map == "mean" else drawn.var(dim=0)
        image = kl_divergence(code) + wrong.mean(dim=0).flatten(1).sum(dim=1)
        return Scored(image=image, pixel=plane.mean(dim=1, keepdim=True), reconstruction=drawn.mean(dim=0))

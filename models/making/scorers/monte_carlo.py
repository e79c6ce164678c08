"""Monte Carlo dropout with a fixed bank of masks (Baur et al. 2021, comparative study, section III-J)."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.layers import BankedDropout
from models.making.passes import Network, network_of
from models.making.scorers.scoring import Scored, Scorer
from models.making.section import Section

BANK_SEED = 13
SMALLEST = 1e-3


class MonteCarlo(Section):
    """Mean residual over draws of the network's dropout, or how much the draws differ.

    Attributes
    ----------
    draws : int
        The source takes 100; a graph holds at most 16.
    map : str
        ``mean``: mean of |x - x'|; ``variance``: variance of x'; ``ratio``: mean divided by deviation.
    """

    type: Literal["monte_carlo"] = "monte_carlo"
    network: str
    draws: Literal[2, 4, 8, 16] = 8
    map: Literal["mean", "variance", "ratio"] = "mean"

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If the network has no dropout.
        """
        return _MonteCarlo(self, network_of(networks, self.network))


class _MonteCarlo(Scorer):
    def __init__(self, plan: MonteCarlo, network: Network) -> None:
        super().__init__()
        self.plan = plan
        self.network = network
        self.dropouts = [part for part in network.modules() if isinstance(part, BankedDropout) and part.share]
        if not self.dropouts:
            raise TypeError(f"{plan.network} has no dropout to draw from")

    def _prepare(self, x: Tensor, position: Tensor) -> None:
        """Masks of the shapes that a run of the network shows, made once."""
        shapes: dict[int, tuple[int, ...]] = {}
        hooks = [
            part.register_forward_pre_hook(
                lambda module, given: shapes.__setitem__(id(module), tuple(given[0].shape[1:]))
            )
            for part in self.dropouts
        ]
        self.network.run(x[:1], position[:1], sample=False)
        for hook in hooks:
            hook.remove()
        generator = torch.Generator().manual_seed(BANK_SEED)
        for part in self.dropouts:
            part.prepare(tuple(int(n) for n in shapes[id(part)]), self.plan.draws, generator)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        if self.dropouts[0].bank is None:
            self._prepare(x, position)
        drawn = []
        for draw in range(self.plan.draws):
            for part in self.dropouts:
                part.draw = draw
            found = self.network.run(x, position, sample=False).image
            if found is None:
                raise TypeError("Monte Carlo dropout needs a network that answers with an image")
            drawn.append(found)
        for part in self.dropouts:
            part.draw = None
        images = torch.stack(drawn)
        residual = (x - images).abs().mean(dim=0)
        spread = images.var(dim=0)
        plane = {"mean": residual, "variance": spread, "ratio": residual / (SMALLEST + spread.sqrt())}[
            self.plan.map
        ]
        return Scored(pixel=plane.mean(dim=1, keepdim=True), reconstruction=images.mean(dim=0))

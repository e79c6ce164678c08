"""Restoration: the image is changed step by step until the model finds it normal; what changed is the score.

Baur et al. 2021, comparative study, section III-K; Zimmerer's dissertation, section 4.2.2, eq. 4.3 to 4.5.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from models.making.objectives.divergence import kl_divergence
from models.making.passes import Network, network_of
from models.making.scorers.residual import Sign, signed
from models.making.scorers.scoring import Scored, Scorer
from models.making.section import Count, NotNegative, Positive, Section

SMALLEST = 1e-8


class Restoration(Section):
    """A few descent steps on Rec + KL + weight TV(x - y), unrolled in the graph.

    Attributes
    ----------
    steps : int
        The source takes 500 of rate 1e-3; few large ones need ``normalised``.
    rate : float
        Of a step; with ``normalised`` the root mean square change of a step over the image.
    total_variation : float
        Weight of the total variation of the change.
    start : str
        ``image``: from the image itself; ``reconstruction``: from what the network makes of it.
    """

    type: Literal["restoration"] = "restoration"
    network: str
    steps: Count = 5
    rate: Positive = 0.05
    normalised: bool = True
    total_variation: NotNegative = 0.5
    distance: Literal["l1", "l2"] = "l1"
    start: Literal["image", "reconstruction"] = "image"
    sign: Sign = "absolute"

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Restoration(self, network_of(networks, self.network))


def total_variation(change: Tensor) -> Tensor:
    """Sum of absolute differences of neighbours; (batch,)."""
    down = (change[..., 1:, :] - change[..., :-1, :]).abs().flatten(1).sum(dim=1)
    across = (change[..., 1:] - change[..., :-1]).abs().flatten(1).sum(dim=1)
    return down + across


class RestorationStep(nn.Module):
    """One step: the image as it is now and as it came → the next one, and how surprising it is."""

    def __init__(self, plan: Restoration, network: Network) -> None:
        super().__init__()
        self.plan = plan
        self.network = network

    def forward(self, now: Tensor, came: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, rows, columns) twice → the next image, and Rec + KL of this one, (batch,)."""
        plan = self.plan

        def surprise(image: Tensor) -> tuple[Tensor, Tensor]:
            found = self.network.run(image, position, sample=False)
            if found.image is None or found.code is None:
                raise TypeError("restoration needs a network with a reconstruction and a code")
            wrong = (image - found.image).flatten(1)
            rec = wrong.abs().sum(dim=1) if plan.distance == "l1" else (wrong**2).sum(dim=1) / 2
            model = rec + kl_divergence(found.code)
            return (model + plan.total_variation * total_variation(image - came)).sum(), model

        gradient_of: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.func.grad(surprise, has_aux=True)
        gradient, model = gradient_of(now)
        gradient = gradient * mask
        if plan.normalised:
            size = (gradient**2).flatten(1).mean(dim=1).sqrt()
            gradient = gradient / (size + SMALLEST)[:, None, None, None]
        return now - plan.rate * gradient, model


class _Restoration(Scorer):
    def __init__(self, plan: Restoration, network: Network) -> None:
        super().__init__()
        self.plan = plan
        self.step = RestorationStep(plan, network)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        now = x
        if self.plan.start == "reconstruction":
            found = self.step.network.run(x, position, sample=False).image
            if found is None:
                raise TypeError("restoration needs a network with a reconstruction")
            now = x + (found - x) * mask
        first: Tensor | None = None
        for _ in range(self.plan.steps):
            now, model = self.step(now, x, mask, position)
            first = model if first is None else first
        return Scored(image=first, pixel=signed(x - now, self.plan.sign), reconstruction=now)

"""A normalising flow on codes: RealNVP (Dinh et al. 2017; Zimmerer's dissertation, section 6.0.3)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from models.making.passes import Shape
from models.making.section import Count, Section


class FlowPlan(Section):
    """Affine couplings on a vector.

    Attributes
    ----------
    code : int
        Length of the vector; an even number.
    couplings : int
    hidden : int
        Width of the two layers that each coupling's networks have.
    """

    type: Literal["flow"] = "flow"
    code: Count
    couplings: Count = 8
    hidden: Count = 128

    def build(self, shape: Shape) -> "Flow":
        """The flow; the shape of the images does not matter to it."""
        del shape
        return Flow(self)


class Flow(nn.Module):
    """Vector → log-likelihood. Vectors are standardised by buffers that the first batch of a stage sets."""

    mean: Tensor
    deviation: Tensor
    is_set: Tensor

    def __init__(self, plan: FlowPlan) -> None:
        super().__init__()
        if plan.code % 2:
            raise ValueError(f"code: {plan.code} is odd; a coupling needs two halves")
        self.width = plan.code // 2
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.width, plan.hidden),
                nn.ReLU(),
                nn.Linear(plan.hidden, plan.hidden),
                nn.ReLU(),
                nn.Linear(plan.hidden, 2 * self.width),
            )
            for _ in range(plan.couplings)
        )
        for net in self.nets:
            last = list(net.children())[-1]
            if isinstance(last, nn.Linear):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        self.register_buffer("mean", torch.zeros(plan.code))
        self.register_buffer("deviation", torch.ones(plan.code))
        self.register_buffer("is_set", torch.tensor(0))

    def surprise(self, code: Tensor) -> Tensor:
        """Negative log-likelihood in nats, (batch, code) → (batch,)."""
        if self.training and not int(self.is_set):
            self.mean.copy_(code.detach().mean(dim=0))
            self.deviation.copy_(code.detach().std(dim=0).clamp(min=1e-3))
            self.is_set.fill_(1)
        hidden = (code.float() - self.mean) / self.deviation
        log_volume = -self.deviation.log().sum() + hidden.new_zeros(hidden.shape[0])
        for net in self.nets:
            kept, changed = hidden.chunk(2, dim=1)
            scale, move = net(kept).chunk(2, dim=1)
            scale = 2 * torch.tanh(scale / 2)  # Bounded, or a code far away overflows.
            changed = changed * scale.exp() + move
            log_volume = log_volume + scale.sum(dim=1)
            hidden = torch.cat([changed, kept], dim=1)  # The halves take turns.
        constant = 0.5 * hidden.shape[1] * math.log(2 * math.pi)
        found: Tensor = 0.5 * (hidden**2).sum(dim=1) + constant - log_volume
        return found

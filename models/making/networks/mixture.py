"""The Gaussian-mixture neck: a prior of several Gaussians whose places depend on a second code.

Dilokthanakul et al. 2016 as used by Baur et al. 2021, comparative study, section III-B. The decoder reads z
alone; public code of the spatial variant let it read the encoder's features, which bypasses the neck.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.necks import Neck
from models.making.passes import Code, Shape
from models.making.section import Count, NotNegative, Section

LIMIT = 6.0  # Log-variances are held within plus and minus this, so that a step cannot overflow.


class MixtureNeck(Section):
    """q(z|x), q(w|x) and p(z|w, c) with so many components.

    Attributes
    ----------
    code, second : int
        Lengths of z and w.
    components : int
    spatial : bool
        Codes on the feature map, by 1 by 1 convolutions, instead of one vector.
    free : float
        Nats of KL(q(c|z) from uniform) that cost nothing; 1 in the reference code.
    """

    type: Literal["mixture"] = "mixture"
    code: Count
    second: Count = 1
    components: Count = 9
    spatial: bool = False
    free: NotNegative = 1.0

    def build(self, inner: Shape) -> Neck:
        """The neck of a feature map."""
        return _Mixture(self, inner)


class _Mixture(Neck):
    def __init__(self, plan: MixtureNeck, inner: Shape) -> None:
        super().__init__()
        self.plan = plan
        self.inner = inner
        flat = inner.channels if plan.spatial else inner.numel
        k = plan.components
        # 1 by 1 convolutions are linear layers on every place; a vector is a map of one place.
        self.z = nn.Conv2d(flat, 2 * plan.code, 1)
        self.w = nn.Conv2d(flat, 2 * plan.second, 1)
        self.prior = nn.Sequential(
            nn.Conv2d(plan.second, 4 * k, 1), nn.Tanh(), nn.Conv2d(4 * k, 2 * k * plan.code, 1)
        )
        self.leave = nn.Conv2d(plan.code, flat, 1)

    def encode(self, features: Tensor, *, sample: bool) -> Code:
        hidden = features if self.plan.spatial else features.flatten(1)[:, :, None, None]
        mean, log_variance = split(self.z(hidden))
        w_mean, w_log_variance = split(self.w(hidden))
        z, w = (draw(m, v) if sample else m for m, v in ((mean, log_variance), (w_mean, w_log_variance)))
        losses = self._losses(z, w, mean, log_variance, w_mean, w_log_variance)
        return Code(z=z, mean=mean, log_variance=log_variance, losses=losses)

    def decode(self, z: Tensor) -> Tensor:
        hidden: Tensor = self.leave(z)
        return hidden if self.plan.spatial else hidden.flatten(1).unflatten(1, tuple(self.inner))

    def _losses(
        self, z: Tensor, w: Tensor, mean: Tensor, log_variance: Tensor, w_mean: Tensor, w_log_variance: Tensor
    ) -> dict[str, Tensor]:
        """The three KL terms and their sum, each (batch,), summed over codes and places."""
        k, n = self.plan.components, z.shape[1]
        prior = self.prior(w).float().unflatten(1, (k, 2 * n))
        p_mean, p_log_variance = prior[:, :, :n], prior[:, :, n:].clamp(-LIMIT, LIMIT)
        away = (z[:, None] - p_mean) ** 2 / p_log_variance.exp()
        log_density = -0.5 * (away + p_log_variance + math.log(2 * math.pi)).sum(dim=2)
        belongs = log_density.log_softmax(dim=1)  # (batch, k, rows, columns)
        share = belongs.exp()
        spread = (log_variance[:, None].exp() + (mean[:, None] - p_mean) ** 2) / p_log_variance.exp()
        each = 0.5 * (spread + p_log_variance - log_variance[:, None] - 1).sum(dim=2)
        conditional = (share * each).sum(dim=1).flatten(1).sum(dim=1)
        second = 0.5 * (w_mean**2 + w_log_variance.exp() - w_log_variance - 1).flatten(1).sum(dim=1)
        component = (share * (belongs + math.log(k))).sum(dim=1).flatten(1).sum(dim=1)
        component = component.clamp(min=self.plan.free)
        return {
            "conditional": conditional,
            "second": second,
            "component": component,
            "divergence": conditional + second + component,
        }


def split(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and bounded log-variance, halves of the channels."""
    mean, log_variance = parameters.float().chunk(2, dim=1)
    return mean, log_variance.clamp(-LIMIT, LIMIT)


def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A sample of a Gaussian."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)

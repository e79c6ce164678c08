"""A gated autoregressive prior over codebook entries (van den Oord et al. 2016)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.making.passes import Shape
from models.making.section import Count, Section


class PixelCnnPlan(Section):
    """Predicts each entry from those above and to the left of it.

    Attributes
    ----------
    entries : int
        Of the codebook it is a prior of.
    channels, layers : int
    """

    type: Literal["pixelcnn"] = "pixelcnn"
    entries: Count = 512
    channels: Count = 48
    layers: Count = 4

    def build(self, shape: Shape) -> "PixelCnn":
        """The prior; it fits code maps of any size."""
        del shape
        return PixelCnn(self)


class MaskedConv(nn.Conv2d):
    """A convolution that sees what comes before a place in reading order, and the place itself if asked."""

    seen: Tensor

    def __init__(self, before: int, after: int, *, sees_itself: bool, kernel: int = 5) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2)
        seen = torch.ones(1, 1, kernel, kernel)
        seen[..., kernel // 2, kernel // 2 + int(sees_itself) :] = 0
        seen[..., kernel // 2 + 1 :, :] = 0
        self.register_buffer("seen", seen)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, rows, columns) → (batch, after, rows, columns)."""
        return functional.conv2d(x, self.weight * self.seen, self.bias, padding=self.padding)


class PixelCnn(nn.Module):
    """Entries → logits of every entry given those before it."""

    def __init__(self, plan: PixelCnnPlan) -> None:
        super().__init__()
        self.embed = nn.Embedding(plan.entries, plan.channels)
        self.first = MaskedConv(plan.channels, 2 * plan.channels, sees_itself=False)
        self.rest = nn.ModuleList(
            MaskedConv(plan.channels, 2 * plan.channels, sees_itself=True) for _ in range(plan.layers - 1)
        )
        self.leave = nn.Conv2d(plan.channels, plan.entries, 1)

    def forward(self, indices: Tensor) -> Tensor:
        """(batch, rows, columns) → (batch, entries, rows, columns)."""
        hidden = gate(self.first(self.embed(indices).movedim(-1, 1)))
        for layer in self.rest:
            hidden = hidden + gate(layer(hidden))
        found: Tensor = self.leave(hidden)
        return found

    def surprise(self, indices: Tensor) -> Tensor:
        """Negative log-likelihood of each entry in nats, (batch, rows, columns)."""
        logits: Any = self(indices).float().log_softmax(dim=1)
        found: Tensor = -logits.gather(1, indices[:, None])[:, 0]
        return found


def gate(hidden: Tensor) -> Tensor:
    """Tanh of one half of the channels, gated by the other."""
    value, control = hidden.chunk(2, dim=1)
    return value.tanh() * control.sigmoid()

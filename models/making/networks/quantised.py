"""Codebooks: the neck of a VQ-VAE, and the two-level VQ-VAE-2 (van den Oord 2017; Razavi 2019)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.necks import Neck
from models.making.networks.strided import StridedDecoder, StridedEncoder
from models.making.passes import Code, Network, Output, Shape
from models.making.section import Count, Section

DECAY = 0.99  # Of the moving averages that move the codebook.
SMALLEST = 1e-5
UNUSED = 0.3  # Uses a batch, as a moving average: an entry nobody has used for about 120 steps.


class Codebook(nn.Module):
    """Entries moved by exponential averages of what is nearest to them.

    Parameters
    ----------
    entries, width : int
        Number of entries and their length.
    """

    embedding: Tensor
    count: Tensor
    total: Tensor

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        first = torch.randn(entries, width)
        self.register_buffer("embedding", first)
        self.register_buffer("count", torch.ones(entries))
        self.register_buffer("total", first.clone())

    def nearest(self, hidden: Tensor) -> Tensor:
        """Nearest entry of each place; (batch, width, rows, columns) → (batch, rows, columns)."""
        flat = hidden.float().movedim(1, -1)
        distance = (self.embedding**2).sum(1) - 2 * flat @ self.embedding.T
        return distance.argmin(dim=-1)

    def look_up(self, indices: Tensor) -> Tensor:
        """(batch, rows, columns) → (batch, width, rows, columns)."""
        return functional.embedding(indices, self.embedding).movedim(-1, 1)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantised map with the gradient passed straight through, indices, and commitment loss.

        Returns
        -------
        quantised : (batch, width, rows, columns)
        indices : (batch, rows, columns)
        commitment : (batch,)
            Mean squared distance of the map from its entries.
        """
        hidden = hidden.float()
        indices = self.nearest(hidden)
        entries = self.look_up(indices)
        if self.training:
            self._move(hidden.detach(), indices)
        commitment = ((hidden - entries.detach()) ** 2).flatten(1).mean(dim=1)
        if torch.is_grad_enabled() and self.training:
            entries = hidden + (entries - hidden).detach()
        return entries, indices, commitment

    @torch.no_grad()
    def _move(self, hidden: Tensor, indices: Tensor) -> None:
        chosen = functional.one_hot(indices.flatten(), len(self.count)).float()
        flat = hidden.movedim(1, -1).flatten(0, -2)
        self.count.mul_(DECAY).add_(chosen.sum(0), alpha=1 - DECAY)
        self.total.mul_(DECAY).add_(chosen.T @ flat, alpha=1 - DECAY)
        n = self.count.sum()
        smoothed = (self.count + SMALLEST) / (n + len(self.count) * SMALLEST) * n
        self.embedding.copy_(self.total / smoothed[:, None])
        # An entry nobody uses is put where a sample is, or a small set would leave most of them behind.
        unused = self.count < UNUSED
        picked = flat[torch.randint(len(flat), (len(self.count),), device=flat.device)]
        self.embedding.copy_(torch.where(unused[:, None], picked, self.embedding))
        self.total.copy_(torch.where(unused[:, None], picked, self.total))
        self.count.copy_(torch.where(unused, torch.ones_like(self.count), self.count))


class QuantisedNeck(Section):
    """A codebook on the feature map.

    Attributes
    ----------
    entries, width : int
        512 entries of length 64 in the source.
    """

    type: Literal["quantised"] = "quantised"
    entries: Count = 512
    width: Count = 64

    def build(self, inner: Shape) -> Neck:
        """The neck of a feature map."""
        return Quantised(self, inner)


class Quantised(Neck):
    """Feature map → nearest entries → feature map."""

    def __init__(self, plan: QuantisedNeck, inner: Shape) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inner.channels, plan.width, 1)
        self.book = Codebook(plan.entries, plan.width)
        self.leave = nn.Conv2d(plan.width, inner.channels, 1)

    def encode(self, features: Tensor, *, sample: bool) -> Code:
        """Quantised map with its indices and ``commitment``."""
        del sample
        z, indices, commitment = self.book(self.enter(features))
        return Code(z=z, losses={"commitment": commitment}, indices=indices)

    def decode(self, z: Tensor) -> Tensor:
        """Feature map of quantised codes."""
        found: Tensor = self.leave(z)
        return found


class TwoLevelPlan(Section):
    """VQ-VAE-2: a coarse codebook for shape, a fine one for texture given the coarse.

    Attributes
    ----------
    bottom, top : StridedEncoder
        Image to fine map, fine map to coarse map.
    entries, width : int
        Of both codebooks.
    decoder : StridedDecoder
        From both levels to the image.
    """

    type: Literal["vqvae2"] = "vqvae2"
    bottom: StridedEncoder
    top: Annotated[StridedEncoder, Field()]
    entries: Count = 512
    width: Count = 64
    decoder: StridedDecoder

    def build(self, shape: Shape) -> "TwoLevel":
        """The network for images of a shape."""
        return TwoLevel(self, shape)


class TwoLevel(Network):
    """Image → fine and coarse codes → image."""

    def __init__(self, plan: TwoLevelPlan, shape: Shape) -> None:
        super().__init__()
        self.bottom = plan.bottom.build(shape)
        self.top = plan.top.build(self.bottom.inner)
        self.enter_top = nn.Conv2d(self.top.inner.channels, plan.width, 1)
        self.book_top = Codebook(plan.entries, plan.width)
        self.scale = self.bottom.inner.rows // self.top.inner.rows
        self.enter_bottom = nn.Conv2d(self.bottom.inner.channels + plan.width, plan.width, 1)
        self.book_bottom = Codebook(plan.entries, plan.width)
        joined = Shape(2 * plan.width, self.bottom.inner.rows, self.bottom.inner.columns)
        self.decoder = plan.decoder.build(joined, shape)

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Reconstruction, and the commitment of both levels."""
        del sample
        fine = self.bottom(x, position)
        coarse, _, first = self.book_top(self.enter_top(self.top(fine, position)))
        raised = functional.interpolate(coarse, scale_factor=float(self.scale), mode="nearest")
        detail, indices, second = self.book_bottom(self.enter_bottom(torch.cat([fine, raised], dim=1)))
        z = torch.cat([raised, detail], dim=1)
        code = Code(z=z, losses={"commitment": first + second}, indices=indices)
        return Output(image=self.decoder(z), code=code)

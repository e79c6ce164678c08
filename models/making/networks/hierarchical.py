"""Two codes, one for what is large and one for what is small (Zimmerer's dissertation, section 3.3)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.mixture import draw, split
from models.making.networks.strided import StridedDecoder, StridedDown, StridedEncoder, StridedUp
from models.making.passes import Code, Network, Output, Shape
from models.making.section import Count, Section


class HierarchicalPlan(Section):
    """High VAE, Low VAE, conditional and partially conditional hierarchical VAE.

    Attributes
    ----------
    mode : str
        ``high``: the deep code alone; ``low``: the shallow code alone; ``conditional`` (chVAE): one decoder
        reads the shallow code and the deep one; ``partial`` (pchVAE): the image is the sum of an image of
        the deep code and one of the shallow code, eq. 3.24.
    shared, deep : StridedEncoder
        Image to shallow map, shallow map to deep map.
    high, low : int
        Channels of the deep and of the shallow code.
    high_decoder, low_decoder : StridedDecoder
        From the deep and from the shallow code to the image.
    """

    type: Literal["hierarchical"] = "hierarchical"
    mode: Literal["high", "low", "conditional", "partial"]
    shared: StridedEncoder
    deep: StridedEncoder
    high: Count
    low: Count
    high_decoder: StridedDecoder
    low_decoder: StridedDecoder

    def build(self, shape: Shape) -> "Hierarchical":
        """The network for images of a shape."""
        return Hierarchical(self, shape)


class Hierarchical(Network):
    """Image → two Gaussian code maps → image."""

    def __init__(self, plan: HierarchicalPlan, shape: Shape) -> None:
        super().__init__()
        self.mode = plan.mode
        self.shared: StridedDown = plan.shared.build(shape)
        self.deep: StridedDown = plan.deep.build(self.shared.inner)
        shallow, deep = self.shared.inner, self.deep.inner
        self.scale = float(shallow.rows // deep.rows)
        self.enter_high = nn.Conv2d(deep.channels, 2 * plan.high, 1)
        self.enter_low = nn.Conv2d(shallow.channels, 2 * plan.low, 1)
        high = Shape(plan.high, deep.rows, deep.columns)
        given = plan.high if plan.mode == "conditional" else 0
        low = Shape(plan.low + given, shallow.rows, shallow.columns)
        self.high_decoder: StridedUp | None = None
        self.low_decoder: StridedUp | None = None
        if plan.mode in ("high", "partial"):
            self.high_decoder = plan.high_decoder.build(high, shape)
        if plan.mode in ("low", "conditional", "partial"):
            self.low_decoder = plan.low_decoder.build(low, shape)

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Reconstruction, both codes, and of ``partial`` the two terms that keep the codes apart."""
        shallow = self.shared(x, position)
        low, high = split(self.enter_low(shallow)), split(self.enter_high(self.deep(shallow, position)))
        z_low, z_high = (draw(*code) if sample else code[0] for code in (low, high))
        used = {"high": (high,), "low": (low,)}.get(self.mode, (low, high))
        mean = torch.cat([code[0].flatten(1) for code in used], dim=1)
        log_variance = torch.cat([code[1].flatten(1) for code in used], dim=1)
        losses: dict[str, Tensor] = {}
        if self.high_decoder is None or self.low_decoder is None:
            image = self._one(z_low, z_high)
        else:
            coarse, detail = self.high_decoder(z_high), self.low_decoder(z_low)
            image = coarse + detail
            again = self._high_of(detail, position)
            losses = {
                "coarse": (x - coarse).abs().flatten(1).sum(dim=1),
                "detail_seen_high": again.abs().flatten(1).sum(dim=1),
            }
        return Output(image=image, code=Code(z=mean, mean=mean, log_variance=log_variance, losses=losses))

    def _one(self, z_low: Tensor, z_high: Tensor) -> Tensor:
        """Image where there is one decoder."""
        if self.low_decoder is not None:
            if self.mode == "conditional":
                raised = functional.interpolate(z_high, scale_factor=self.scale, mode="nearest")
                z_low = torch.cat([z_low, raised], dim=1)
            found: Tensor = self.low_decoder(z_low)
            return found
        if self.high_decoder is None:
            raise TypeError("a hierarchical network has at least one decoder")
        image: Tensor = self.high_decoder(z_high)
        return image

    def _high_of(self, detail: Tensor, position: Tensor) -> Tensor:
        """What the deep path makes of the shallow path's image; nothing, if the two are apart."""
        mean, _ = split(self.enter_high(self.deep(self.shared(detail, position), position)))
        if self.high_decoder is None:
            raise TypeError("a hierarchical network of two parts has a deep decoder")
        found: Tensor = self.high_decoder(mean)
        return found

"""Scores that need no network: constant, intensity, and the difference of left and right.

They stand in every table. Histogram-equalised intensity alone beats many a learned score on bright lesions
(Meissen et al. 2021), and on aligned heads the other half of the picture is a good template.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.scorers.residual import Sign, signed
from models.making.scorers.scoring import Scored, Scorer, Smoothing
from models.making.section import NotNegative, Section


class Intensity(Section):
    """How bright (or how dark) a pixel is.

    Attributes
    ----------
    sign : str
        ``bright``: the pixel itself; ``dark``: one minus the pixel.
    """

    type: Literal["intensity"] = "intensity"
    sign: Literal["bright", "dark"] = "bright"

    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer."""
        del networks
        return _Intensity(self)


class _Intensity(Scorer):
    def __init__(self, plan: Intensity) -> None:
        super().__init__()
        self.plan = plan

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask, position
        plane = x.mean(dim=1, keepdim=True)
        return Scored(pixel=plane if self.plan.sign == "bright" else 1 - plane)


class Constant(Section):
    """The same score for everything: what a table's numbers are worth."""

    type: Literal["constant"] = "constant"

    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer."""
        del networks
        return _Constant()


class _Constant(Scorer):
    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del x, position
        return Scored(pixel=mask * 0.5)


class Asymmetry(Section):
    """A pixel against its mirror image; for pictures aligned to the midline.

    Attributes
    ----------
    blur : float
        Sigma of the blur of the mirror image, pixels: no head is exactly symmetric.
    """

    type: Literal["asymmetry"] = "asymmetry"
    sign: Sign = "absolute"
    blur: NotNegative = 2.0

    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer."""
        del networks
        return _Asymmetry(self)


class _Asymmetry(Scorer):
    def __init__(self, plan: Asymmetry) -> None:
        super().__init__()
        self.plan = plan
        self.smoothing = Smoothing(plan.blur)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del position
        both = mask * torch.flip(mask, [3])
        plane = x.mean(dim=1, keepdim=True)
        smooth = self.smoothing(plane)
        return Scored(pixel=signed((smooth - torch.flip(smooth, [3])) * both, self.plan.sign))

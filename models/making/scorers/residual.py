"""Residual scorers: how far an image is from what the network makes of it."""

from typing import Literal

from torch import Tensor, nn

from models.making.passes import network_of
from models.making.scorers.scoring import Scored, Scorer
from models.making.section import Section

Sign = Literal["absolute", "bright", "dark"]


def signed(residual: Tensor, sign: Sign) -> Tensor:
    """(batch, channels, rows, columns) → absolute, positive or negative part, mean over channels."""
    match sign:
        case "absolute":
            part = residual.abs()
        case "bright":
            part = residual.clamp(min=0)
        case "dark":
            part = (-residual).clamp(min=0)
    return part.mean(dim=1, keepdim=True)


class Residual(Section):
    """|x - x'| or its square, or its bright or dark part (Rec; Baur 2021, section III-A).

    Attributes
    ----------
    predicts : str
        ``image``: the network returns the image; ``noise``: it returns what should not be there.
    by_scale : bool
        Divide by the deviation that the network predicts for the pixel.
    """

    type: Literal["residual"] = "residual"
    network: str
    power: Literal[1, 2] = 1
    sign: Sign = "absolute"
    predicts: Literal["image", "noise"] = "image"
    by_scale: bool = False

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Residual(self, networks)


class _Residual(Scorer):
    def __init__(self, plan: Residual, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.plan = plan
        self.network = network_of(networks, plan.network)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        output = self.network.run(x, position, sample=False)
        found = output.image
        if found is None:
            raise TypeError("a residual needs a network that answers with an image")
        reconstruction = found if self.plan.predicts == "image" else x - found
        residual = x - reconstruction
        if self.plan.by_scale:
            if output.log_scale is None:
                raise TypeError("by_scale needs a network that predicts its own variance")
            residual = residual * (-0.5 * output.log_scale).exp()
        if self.plan.power == 2:  # noqa: PLR2004 - squared
            residual = residual.sign() * residual.square()
        pixel = signed(residual, self.plan.sign)
        return Scored(pixel=pixel, reconstruction=reconstruction)

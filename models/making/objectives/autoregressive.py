"""Negative log-likelihood of codebook entries under an autoregressive prior."""

from typing import Literal

from torch import Tensor

from models.making.networks.pixelcnn import PixelCnn
from models.making.objectives.reconstruction import reduce_samples
from models.making.objectives.term import Term
from models.making.passes import Pass


class Autoregressive(Term):
    """Mean surprise of the entries of the branch's network.

    Attributes
    ----------
    prior : str
        Network of type ``pixelcnn``.
    """

    type: Literal["autoregressive"] = "autoregressive"
    prior: str

    def names(self) -> frozenset[str]:
        """The prior."""
        return frozenset({self.prior})

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        prior = p.networks[self.prior]
        if not isinstance(prior, PixelCnn) or p.output.code is None or p.output.code.indices is None:
            raise TypeError("the autoregressive term needs a pixelcnn and a network with a codebook")
        return reduce_samples(prior.surprise(p.output.code.indices), "mean")

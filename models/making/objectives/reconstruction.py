"""Terms that compare an answer with what was wanted. The reduction decides the weight of every other term."""

from typing import Literal

from torch import Tensor

from models.making.objectives.term import Term
from models.making.passes import Pass

Reduction = Literal["sum", "mean"]


def reduce_samples(values: Tensor, reduction: Reduction) -> Tensor:
    """Summed or averaged over everything but the batch, then averaged over the batch; scalar."""
    flat = values.float().flatten(1)
    return (flat.sum(dim=1) if reduction == "sum" else flat.mean(dim=1)).mean()


class GaussianLikelihood(Term):
    """Negative log-likelihood of the target under the pixel variances the network predicts (Mao et al. 2020).

    (x - x')² / (2 sigma²) + log(sigma²) / 2, over the mask.
    """

    type: Literal["gaussian_nll"] = "gaussian_nll"
    reduce: Reduction = "sum"

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.image is None or p.output.log_scale is None:
            raise TypeError("gaussian_nll needs a network that predicts its own variance")
        log_scale = p.output.log_scale.float()
        square = (p.output.image.float() - p.target.float()) ** 2
        return reduce_samples(0.5 * (square * (-log_scale).exp() + log_scale) * p.batch.mask, self.reduce)


class Difference(Term):
    """L1 or L2 distance of the answer from the target.

    Attributes
    ----------
    type : str
        ``l1`` or ``l2`` (squared, not halved).
    masked : bool
        Only where the image is assessed; a mean is then over the mask (Davletshina 2020, section 2.3).
    """

    type: Literal["l1", "l2"]
    reduce: Reduction = "sum"
    masked: bool = False

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.image is None:
            raise TypeError(f"{self.type} needs a network that answers with an image")
        wrong = p.output.image.float() - p.target.float()
        wrong = wrong.abs() if self.type == "l1" else wrong**2
        if not self.masked:
            return reduce_samples(wrong, self.reduce)
        wrong = wrong * p.batch.mask
        if self.reduce == "sum":
            return reduce_samples(wrong, "sum")
        return wrong.sum() / (p.batch.mask.sum() * wrong.shape[1]).clamp(min=1)

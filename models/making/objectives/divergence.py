"""Terms on codes: Kullback-Leibler divergence of a Gaussian posterior, and losses a neck keeps itself."""

from typing import Literal

from torch import Tensor

from models.making.objectives.reconstruction import Reduction, reduce_samples
from models.making.objectives.term import Term
from models.making.passes import Code, Pass
from models.making.section import Count


def kl_divergence(code: Code) -> Tensor:
    """KL of N(mean, exp(log_variance)) from N(0, 1), or what the neck says instead; summed, (batch,).

    Raises
    ------
    TypeError
        If the code has no posterior.
    """
    if "divergence" in code.losses:
        return code.losses["divergence"]
    if code.mean is None or code.log_variance is None:
        raise TypeError("the KL term needs a neck with a Gaussian posterior")
    each = code.mean**2 + code.log_variance.exp() - code.log_variance - 1
    return 0.5 * each.flatten(1).sum(dim=1)


class KL(Term):
    """KL divergence from the standard normal, summed over the code, mean over the batch.

    Attributes
    ----------
    warm_up : int
        Steps over which the weight grows from 0, against posterior collapse; 0: none.
    """

    type: Literal["kl"] = "kl"
    reduce: Reduction = "sum"
    warm_up: Count | Literal[0] = 0

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.code is None:
            raise TypeError("the KL term needs a network with a code")
        found = kl_divergence(p.output.code)
        if self.reduce == "mean":
            found = found / p.output.code.z.flatten(1).shape[1]
        grown = min(1.0, (p.step + 1) / self.warm_up) if self.warm_up else 1.0
        return grown * reduce_samples(found[:, None], "sum")


class CodeLoss(Term):
    """A loss the neck reports by name: commitment of a codebook, terms of a mixture."""

    type: Literal["code_loss"] = "code_loss"
    name: str

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.code is None or self.name not in p.output.code.losses:
            raise TypeError(f"the network's neck reports no loss named {self.name}")
        return reduce_samples(p.output.code.losses[self.name][:, None], "sum")

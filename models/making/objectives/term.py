"""What every term is."""

from torch import Tensor

from models.making.passes import Pass
from models.making.section import Positive, Section


class Term(Section):
    """One part of a loss.

    Attributes
    ----------
    weight : float
        What the term is multiplied by.
    """

    weight: Positive = 1.0

    def names(self) -> frozenset[str]:
        """Further networks the term needs, by their names in the record."""
        return frozenset()

    def loss(self, p: Pass) -> Tensor:
        """Scalar, before the weight."""
        raise NotImplementedError

"""A branch of a training step: what a network is given, and what it is asked to make small."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from models.making.corrupters import AnyCorrupter
from models.making.corrupting import NoCorruption
from models.making.objectives.autoregressive import Autoregressive
from models.making.objectives.codes import CodeMatch, NtXent
from models.making.objectives.divergence import KL, CodeLoss
from models.making.objectives.likelihood import FlowLikelihood
from models.making.objectives.maps import ImageCrossEntropy, MapCrossEntropy, Marked, SelfTaught
from models.making.objectives.perception import Edges, Perceptual
from models.making.objectives.reconstruction import Difference, GaussianLikelihood
from models.making.passes import Batch, Pass, network_of
from models.making.section import Positive, Section

AnyTerm = Annotated[
    Autoregressive
    | CodeLoss
    | CodeMatch
    | Difference
    | Edges
    | FlowLikelihood
    | GaussianLikelihood
    | ImageCrossEntropy
    | KL
    | MapCrossEntropy
    | Marked
    | NtXent
    | Perceptual
    | SelfTaught,
    Field(discriminator="type"),
]


class Branch(Section):
    """One pass through one network and its terms.

    Attributes
    ----------
    sample : bool
        Draw the code from its posterior.
    """

    network: str
    corrupt: AnyCorrupter = NoCorruption()
    sample: bool = True
    weight: Positive = 1.0
    terms: Annotated[tuple[AnyTerm, ...], Field(min_length=1)]

    def names(self) -> frozenset[str]:
        """Networks the branch and its terms speak of."""
        return frozenset({self.network}).union(*(term.names() for term in self.terms))

    def loss(self, batch: Batch, networks: nn.ModuleDict, step: int, steps: int) -> Tensor:
        """Weighted sum of the terms; scalar."""
        corrupted = self.corrupt.apply(batch)
        output = network_of(networks, self.network).run(corrupted.given, batch.position, sample=self.sample)
        p = Pass(
            batch=batch,
            given=corrupted.given,
            target=corrupted.target,
            output=output,
            networks=networks,
            step=step,
            steps=steps,
        )
        total: Tensor = sum((term.weight * term.loss(p) for term in self.terms), start=batch.x.new_zeros(()))
        return self.weight * total

"""Terms on codes of reconstructions and of two views: code matching and contrast."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.making.networks.embedder import Embedder
from models.making.objectives.term import Term
from models.making.passes import Pass, network_of
from models.making.section import Positive


class CodeMatch(Term):
    """Mean squared distance of the code from the code of the reconstruction (Chen & Konukoglu 2018).

    The constrained autoencoder of Baur et al. 2021, comparative study, section III-B.4.
    """

    type: Literal["code_match"] = "code_match"
    network: str

    def names(self) -> frozenset[str]:
        """The network that encodes the reconstruction."""
        return frozenset({self.network})

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.code is None or p.output.image is None:
            raise TypeError("code_match needs a network with a code and a reconstruction")
        again = network_of(p.networks, self.network).run(p.output.image, p.batch.position, sample=False).code
        if again is None:
            raise TypeError("code_match needs a network with a code")
        return ((p.output.code.z.float() - again.z.float()) ** 2).mean()


class NtXent(Term):
    """Normalised temperature-scaled cross entropy of two views of each image (Chen et al. 2020).

    The branch's corrupter ``views`` gives one view as what the network sees and the other as the target.
    """

    type: Literal["nt_xent"] = "nt_xent"
    network: str
    temperature: Positive = 0.5

    def names(self) -> frozenset[str]:
        """The embedder."""
        return frozenset({self.network})

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        network = p.networks[self.network]
        if not isinstance(network, Embedder) or p.output.features is None:
            raise TypeError("nt_xent needs an embedder")
        other = network.run(p.target, p.batch.position, sample=False).features
        if other is None:
            raise TypeError("nt_xent needs an embedder")
        views = torch.cat([network.project(p.output.features), network.project(other)])
        n = len(p.given)
        likeness = views @ views.T / self.temperature
        itself = torch.eye(2 * n, dtype=torch.bool, device=views.device)
        likeness = likeness.masked_fill(itself, float("-inf"))
        partner = (torch.arange(2 * n, device=views.device) + n) % (2 * n)
        return functional.cross_entropy(likeness, partner)

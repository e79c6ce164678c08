"""Scores of networks with a codebook: reconstruction with commitment, and unlikely entries put right."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.autoencoder import Autoencoder
from models.making.networks.pixelcnn import PixelCnn
from models.making.networks.quantised import Quantised
from models.making.passes import Network, network_of
from models.making.scorers.gradient import quantile
from models.making.scorers.scoring import Normals, Scored, Scorer
from models.making.section import Count, NotNegative, Section, Share


class Commitment(Section):
    """Residual map; image score: mean residual plus the neck's commitment (Zimmerer, section 3.3.4).

    Attributes
    ----------
    weight : float
        Of the commitment.
    """

    type: Literal["commitment"] = "commitment"
    network: str
    weight: NotNegative = 0.25

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Commitment(self, network_of(networks, self.network))


class _Commitment(Scorer):
    def __init__(self, plan: Commitment, network: Network) -> None:
        super().__init__()
        self.plan = plan
        self.network = network

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        found = self.network.run(x, position, sample=False)
        if found.image is None or found.code is None:
            raise TypeError("a commitment score needs a network with a codebook")
        pixel = (x - found.image).abs().mean(dim=1, keepdim=True)
        image = pixel.flatten(1).mean(dim=1) + self.plan.weight * found.code.losses["commitment"]
        return Scored(image=image, pixel=pixel, reconstruction=found.image)


class AutoregressiveRestoration(Section):
    """Entries that the prior finds unlikely are replaced by what it expects; the change is the map.

    Naval Marimont & Tarroni 2021, as in Zimmerer's dissertation, section 4.1.3. The source draws entries
    and averages several draws; a graph without randomness takes the most likely entry.

    Attributes
    ----------
    unlikely : float
        Quantile of the surprise of normals' entries above which an entry counts as unlikely.
    rounds : int
        Passes, as an entry that is put right changes what is expected of those after it.
    """

    type: Literal["autoregressive"] = "autoregressive"
    network: str
    prior: str
    unlikely: Share = 0.98
    rounds: Count = 2

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network, self.prior})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If the networks are not an autoencoder with a codebook and its prior.
        """
        network, prior = networks[self.network], networks[self.prior]
        if not isinstance(network, Autoencoder) or not isinstance(prior, PixelCnn):
            raise TypeError("score.by needs an autoencoder with a codebook and a pixelcnn")
        return _Autoregressive(self, network, prior)


class _Autoregressive(Scorer):
    threshold: Tensor

    def __init__(self, plan: AutoregressiveRestoration, network: Autoencoder, prior: PixelCnn) -> None:
        super().__init__()
        if not isinstance(network.neck, Quantised):
            raise TypeError(f"{plan.network} has no codebook")
        self.plan = plan
        self.network = network
        self.neck = network.neck
        self.prior = prior
        self.register_buffer("threshold", torch.tensor(1.0))

    def fit(self, normals: Normals) -> None:
        with torch.no_grad():
            found = [self.prior.surprise(self._indices(batch.x, batch.position)) for batch in normals()]
        self.threshold.copy_(quantile(torch.cat([part.flatten() for part in found]), self.plan.unlikely))

    def _indices(self, x: Tensor, position: Tensor) -> Tensor:
        indices = self.network.encode(x, position).indices
        if indices is None:
            raise TypeError(f"{self.plan.network} has no codebook")
        return indices

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        indices = self._indices(x, position)
        surprise = self.prior.surprise(indices)
        image = torch.where(surprise > self.threshold, surprise, 0.0).flatten(1).sum(dim=1)
        for _ in range(self.plan.rounds):
            expected = self.prior(indices).argmax(dim=1)
            indices = torch.where(self.prior.surprise(indices) > self.threshold, expected, indices)
        restored = self.network.decode(self.neck.book.look_up(indices))
        return Scored(
            image=image, pixel=(x - restored).abs().mean(dim=1, keepdim=True), reconstruction=restored
        )

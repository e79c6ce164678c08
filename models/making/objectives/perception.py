"""Terms that compare features and edges instead of pixels."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.making.networks.embedder import Embedder
from models.making.objectives.term import Term
from models.making.passes import Pass

SMALLEST = 1e-6


def feature_differences(network: Embedder, x: Tensor, y: Tensor, position: Tensor) -> list[Tensor]:
    """Relative L1 of the feature maps of two images at every scale, each (batch, 1, rows, columns).

    |f(x) - f(y)| / |f(x)|, means over channels (Shvetsova et al. 2021, Tuluptceva et al. 2020).
    """
    found = []
    for a, b in zip(network.maps(x, position), network.maps(y, position), strict=True):
        size = a.abs().mean(dim=(1, 2, 3), keepdim=True) + SMALLEST
        found.append((a - b).abs().mean(dim=1, keepdim=True) / size)
    return found


class Perceptual(Term):
    """Relative L1 between features of the target and of the reconstruction.

    Attributes
    ----------
    features : str
        A trained network of type ``embedder``.
    """

    type: Literal["perceptual"] = "perceptual"
    features: str

    def names(self) -> frozenset[str]:
        """The network whose features are compared."""
        return frozenset({self.features})

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        network = p.networks[self.features]
        if not isinstance(network, Embedder) or p.output.image is None:
            raise TypeError("perceptual needs an embedder and a network that answers with an image")
        parts = feature_differences(network, p.target, p.output.image, p.batch.position)
        return torch.stack([part.float().mean() for part in parts]).sum()


def edges(x: Tensor) -> Tensor:
    """Sobel magnitude, (batch, channels, rows, columns)."""
    line = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    kernel = torch.stack([line, line.T])[:, None]
    flat = x.flatten(0, 1)[:, None]
    found = functional.conv2d(functional.pad(flat, [1, 1, 1, 1], mode="replicate"), kernel)
    size: Tensor = (found**2).sum(dim=1).add(SMALLEST).sqrt()
    found_edges: Tensor = size.unflatten(0, (x.shape[0], x.shape[1]))
    return found_edges


class Edges(Term):
    """Mean absolute difference of Sobel magnitudes; differentiable where Canny edges are not."""

    type: Literal["edges"] = "edges"

    def loss(self, p: Pass) -> Tensor:
        """Scalar."""
        if p.output.image is None:
            raise TypeError("edges needs a network that answers with an image")
        return (edges(p.output.image.float()) - edges(p.target.float())).abs().mean()

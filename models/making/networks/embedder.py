"""An encoder whose features are compared, not decoded: contrastive embeddings and a small classifier."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.strided import StridedEncoder
from models.making.passes import Network, Output, Shape
from models.making.section import Count, Section


class EmbedderPlan(Section):
    """Encoder, code, and a projection head that only training sees (Chen et al. 2020, SimCLR).

    Attributes
    ----------
    code : int
        Length of the code that densities are fitted to.
    projection : int
        Length of what the contrastive loss compares.
    """

    type: Literal["embedder"] = "embedder"
    encoder: StridedEncoder
    code: Count
    projection: Count = 64

    def build(self, shape: Shape) -> "Embedder":
        """The network for images of a shape."""
        return Embedder(self, shape)


class Embedder(Network):
    """Image → code; ``project`` is for training."""

    def __init__(self, plan: EmbedderPlan, shape: Shape) -> None:
        super().__init__()
        self.encoder = plan.encoder.build(shape)
        self.enter = nn.Linear(self.encoder.inner.numel, plan.code)
        self.head = nn.Sequential(
            nn.Linear(plan.code, plan.code), nn.ReLU(), nn.Linear(plan.code, plan.projection)
        )

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Features alone, (batch, code)."""
        del sample
        return Output(features=self.enter(self.encoder(x, position).flatten(1)))

    def project(self, features: Tensor) -> Tensor:
        """(batch, code) → (batch, projection) of length 1."""
        return nn.functional.normalize(self.head(features).float(), dim=1)

    def maps(self, x: Tensor, position: Tensor) -> list[Tensor]:
        """Feature maps after every halving, the finest first."""
        hidden = x if self.encoder.coordinates is None else self.encoder.coordinates(x, position)
        found: list[Tensor] = []
        for layer in self.encoder.blocks:
            if isinstance(layer, nn.Conv2d):
                found.append(hidden)  # What enters a halving is what the one before it ended with.
            hidden = layer(hidden)
        return [*found[1:], hidden]


class ClassifierPlan(Section):
    """A small densely connected classifier (Huang et al. 2017), for supervised baselines.

    Attributes
    ----------
    growth : int
        Channels each layer adds.
    blocks : tuple of int
        Layers of each dense block; the size is halved between blocks.
    """

    type: Literal["classifier"] = "classifier"
    growth: Count = 8
    blocks: tuple[Count, ...] = (2, 2, 2)

    def build(self, shape: Shape) -> "Classifier":
        """The network for images of a shape."""
        return Classifier(self, shape)


class Classifier(Network):
    """Image → logit of being abnormal, and the feature map it is the mean of."""

    def __init__(self, plan: ClassifierPlan, shape: Shape) -> None:
        super().__init__()
        width = 2 * plan.growth
        self.enter = nn.Conv2d(shape.channels, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList()
        for layers in plan.blocks:
            block = nn.ModuleList()
            for _ in range(layers):
                block.append(
                    nn.Sequential(
                        nn.BatchNorm2d(width),
                        nn.ReLU(),
                        nn.Conv2d(width, plan.growth, 3, padding=1, bias=False),
                    )
                )
                width += plan.growth
            self.blocks.append(block)
        self.norm = nn.BatchNorm2d(width)
        self.decide = nn.Linear(width, 1)

    def maps(self, x: Tensor) -> Tensor:
        """Last feature map, (batch, width, rows, columns)."""
        hidden = self.enter(x)
        for number, block in enumerate(self.blocks):
            if number:
                hidden = nn.functional.avg_pool2d(hidden, 2)
            if isinstance(block, nn.ModuleList):
                for layer in block:
                    hidden = torch.cat([hidden, layer(hidden)], dim=1)
        return nn.functional.relu(self.norm(hidden))

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Logit alone, (batch,)."""
        del position, sample
        return Output(logit=self.decide(self.maps(x).mean(dim=(2, 3)))[:, 0])

"""Density scorers: how unlikely the code of an image is among those of normals, and which pixels make it so.

CRADL (Zimmerer's dissertation, sections 3.2.3 and 6.0.3): image score -log p(z), map |d(-log p(z))/dx|.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.flow import Flow
from models.making.objectives.likelihood import vector_of
from models.making.passes import Network, network_of
from models.making.priors.mixture import MixturePrior
from models.making.priors.one_class import OneClassPrior
from models.making.scorers.scoring import Normals, Scored, Scorer, Smoothing
from models.making.section import Count, NotNegative, Section


class Density(Section):
    """Negative log-likelihood of a network's code.

    Attributes
    ----------
    components : int
        Of a Gaussian mixture fitted to the codes of training normals.
    flow : str, optional
        A trained network of type ``flow`` instead of the mixture.
    smooth : float
        Sigma of the blur of the gradient, pixels.
    """

    type: Literal["density"] = "density"
    network: str
    components: Count = 1
    flow: str | None = None
    smooth: NotNegative = 1.0

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network} if self.flow is None else {self.network, self.flow})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If what should be a flow is none.
        """
        flow = None if self.flow is None else networks[self.flow]
        if flow is not None and not isinstance(flow, Flow):
            raise TypeError(f"{self.flow} is not a flow")
        return _Density(self, network_of(networks, self.network), flow)


class _Density(Scorer):
    def __init__(self, plan: Density, network: Network, flow: Flow | None) -> None:
        super().__init__()
        self.plan = plan
        self.network = network
        self.smoothing = Smoothing(plan.smooth)
        self.flow = flow
        self.mixture: MixturePrior | None = None

    def fit(self, normals: Normals) -> None:
        if self.flow is not None:
            return
        with torch.no_grad():
            codes = [self._code(batch.x, batch.position) for batch in normals()]
        found = torch.cat(codes)
        self.mixture = MixturePrior(self.plan.components, found.shape[1])
        self.mixture.fit(found)

    def _code(self, x: Tensor, position: Tensor) -> Tensor:
        return vector_of(self.network.run(x, position, sample=False))

    def _surprise(self, code: Tensor) -> Tensor:
        if self.flow is not None:
            return self.flow.surprise(code)
        if self.mixture is None:
            # Before the fit, which is when toy lesions choose a step: the length of the code.
            return 0.5 * (code**2).sum(dim=1)
        return self.mixture.surprise(code)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask

        def total(image: Tensor) -> tuple[Tensor, Tensor]:
            surprise = self._surprise(self._code(image, position))
            return surprise.sum(), surprise

        gradient, surprise = torch.func.grad(total, has_aux=True)(x)
        pixel = self.smoothing(gradient.abs().mean(dim=1, keepdim=True))
        return Scored(image=surprise, pixel=pixel)


class OneClass(Section):
    """A one-class support vector machine on pixels or on a network's code (Sabokrou; Baur, section 3.4.1).

    Attributes
    ----------
    network : str, optional
        Whose code is judged; the pixels unless given.
    side : int
        Pixels are averaged to so many rows and columns.
    components : int
        Principal components kept; 0: all.
    """

    type: Literal["one_class"] = "one_class"
    network: str | None = None
    side: Count = 32
    components: Annotated[int, Field(ge=0)] = 0
    nu: Annotated[float, Field(gt=0, le=1)] = 0.1

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset() if self.network is None else frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks, or of none."""
        return _OneClass(self, None if self.network is None else network_of(networks, self.network))


class _OneClass(Scorer):
    def __init__(self, plan: OneClass, network: Network | None) -> None:
        super().__init__()
        self.plan = plan
        self.network = network
        self.machine: OneClassPrior | None = None

    def fit(self, normals: Normals) -> None:
        with torch.no_grad():
            vectors = torch.cat([self._vector(batch.x, batch.position) for batch in normals()])
        self.machine = OneClassPrior(vectors.shape[1], self.plan.components, self.plan.nu)
        self.machine.fit(vectors)

    def _vector(self, x: Tensor, position: Tensor) -> Tensor:
        if self.network is not None:
            return vector_of(self.network.run(x, position, sample=False))
        return functional.adaptive_avg_pool2d(x, (self.plan.side, self.plan.side)).flatten(1)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        vector = self._vector(x, position)
        # Before the fit there is no boundary; the length of the vector keeps a choice of steps possible.
        outside = (vector**2).sum(dim=1) if self.machine is None else self.machine.outside(vector)
        return Scored(image=outside)

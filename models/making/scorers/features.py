"""Scores from features, several scales, maps that a network answers itself, and principal components."""

from typing import Literal

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.embedder import Classifier, Embedder
from models.making.networks.pyramid import Pyramid
from models.making.objectives.maps import logits_of
from models.making.objectives.perception import feature_differences
from models.making.passes import Network, network_of
from models.making.scorers.scoring import Normals, Scored, Scorer
from models.making.section import Count, Section

SHRINK = 0.25  # Share of the mean deviation added to each pixel's own before components are taken.


class ScaleSpace(Section):
    """Mean over scales of a pyramid's residual (Baur et al. 2020; seed 004, section 2.2)."""

    type: Literal["scale_space"] = "scale_space"
    network: str

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If the network is no pyramid.
        """
        network = networks[self.network]
        if not isinstance(network, Pyramid):
            raise TypeError(f"{self.network} is no pyramid")
        return _ScaleSpace(network)


class _ScaleSpace(Scorer):
    def __init__(self, network: Pyramid) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        plane, image = self.network.residuals(x, position)
        return Scored(pixel=plane, reconstruction=image)


class FeatureResidual(Section):
    """Difference of features of the image and of its reconstruction, all scales at full size, summed.

    Deep perceptual autoencoder (Tuluptceva et al. 2020; Zimmerer's dissertation, section 4.1.3).
    """

    type: Literal["feature_residual"] = "feature_residual"
    network: str
    features: str

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network, self.features})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If the features are not those of an embedder.
        """
        features = networks[self.features]
        if not isinstance(features, Embedder):
            raise TypeError(f"{self.features} is no embedder")
        return _FeatureResidual(network_of(networks, self.network), features)


class _FeatureResidual(Scorer):
    def __init__(self, network: Network, features: Embedder) -> None:
        super().__init__()
        self.network = network
        self.features = features

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        found = self.network.run(x, position, sample=False).image
        if found is None:
            raise TypeError("feature_residual needs a network that answers with an image")
        plane = torch.zeros_like(x[:, :1])
        for part in feature_differences(self.features, x, found, position):
            factor = float(x.shape[2] // part.shape[2])
            plane = plane + functional.interpolate(
                part, scale_factor=factor, mode="bilinear", align_corners=False
            )
        return Scored(pixel=plane, reconstruction=found)


class Segmentation(Section):
    """The map a network answers itself, as chances."""

    type: Literal["segmentation"] = "segmentation"
    network: str

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Segmentation(network_of(networks, self.network))


class _Segmentation(Scorer):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        return Scored(pixel=logits_of(self.network.run(x, position, sample=False)).sigmoid()[:, :1])


class ClassActivation(Section):
    """A classifier's logit, and the positive part of its class activation map.

    With a mean over places before one linear layer, Grad-CAM (Selvaraju et al. 2017) is this map exactly.
    """

    type: Literal["class_activation"] = "class_activation"
    network: str

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.network})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks.

        Raises
        ------
        TypeError
            If the network is no classifier.
        """
        network = networks[self.network]
        if not isinstance(network, Classifier):
            raise TypeError(f"{self.network} is no classifier")
        return _ClassActivation(network)


class _ClassActivation(Scorer):
    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask, position
        maps = self.network.maps(x)
        logit = self.network.decide(maps.mean(dim=(2, 3)))[:, 0]
        plane = (maps * self.network.decide.weight[0][None, :, None, None]).sum(dim=1, keepdim=True).relu()
        factor = float(x.shape[2] // plane.shape[2])
        plane = functional.interpolate(plane, scale_factor=factor, mode="bilinear", align_corners=False)
        return Scored(image=logit, pixel=plane)


class PrincipalComponents(Section):
    """Residual of the principal components of normals, pixel by pixel standardised (Saase et al. 2020).

    Attributes
    ----------
    components : int
        At most; fewer than half of the normals are used.
    """

    type: Literal["pca"] = "pca"
    components: Count = 10

    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer."""
        del networks
        return _PrincipalComponents(self)


class _PrincipalComponents(Scorer):
    def __init__(self, plan: PrincipalComponents) -> None:
        super().__init__()
        self.plan = plan
        self.mean: Tensor | None = None
        self.deviation = torch.ones(1)
        self.axes = torch.zeros(1, 1)

    def fit(self, normals: Normals) -> None:
        pixels = torch.cat([batch.x.flatten(1) for batch in normals()]).double()
        mean, deviation = pixels.mean(dim=0), pixels.std(dim=0)
        deviation = deviation + SHRINK * deviation.mean() + 1e-9
        scaled = ((pixels - mean) / deviation).numpy()
        kept = max(1, min(self.plan.components, len(scaled) // 2))
        found = PCA(kept, svd_solver="full").fit(scaled)
        self.mean = mean.float()
        self.deviation = deviation.float()
        self.axes = torch.from_numpy(found.components_).float()

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask, position
        if self.mean is None:
            return Scored(pixel=x.abs().mean(dim=1, keepdim=True))
        scaled = (x.flatten(1) - self.mean) / self.deviation
        expected = (scaled @ self.axes.T) @ self.axes
        shape = tuple(x.shape[1:])
        plane = (scaled - expected).abs().unflatten(1, shape).mean(dim=1, keepdim=True)
        return Scored(pixel=plane, reconstruction=(expected * self.deviation + self.mean).unflatten(1, shape))

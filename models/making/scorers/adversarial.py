"""Scores of adversarial methods: a verdict, what a generator cannot make, codes that do not come back."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.adversarial import Critic
from models.making.objectives.adversarial import critic_of, encoder_of, generator_of
from models.making.passes import Batch
from models.making.scorers.scoring import Normals, Scored, Scorer
from models.making.section import Count, NotNegative, Positive, Section, Share

FLOOR = 1e-6  # Least deviation of a code's element: that of a collapsed one is 0 (001, section 3).
SHRINKAGE = 1e-3  # Share of the mean variance added to every element's, so that a covariance has an inverse.


class Verdict(Section):
    """1 - D(x), where D is the probability of being real (000, section 2.4). There is no map.

    Attributes
    ----------
    encoder : str, optional
        For a critic of pairs, which is given x and E(x).
    """

    type: Literal["verdict"] = "verdict"
    critic: str
    encoder: str | None = None

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.critic} if self.encoder is None else {self.critic, self.encoder})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Verdict(self, networks)


class _Verdict(Scorer):
    def __init__(self, plan: Verdict, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.critic = critic_of(networks, plan.critic)
        self.encoder = None if plan.encoder is None else encoder_of(networks, plan.encoder)

    def fit(self, normals: Normals) -> None:
        remember(self.critic, normals)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        given = (x,) if self.encoder is None else (x, self.encoder.encode(x, position).z)
        return Scored(image=torch.sigmoid(-self.critic.judge(*given).logit))


def remember(critic: Critic, normals: Normals) -> None:
    """Give a critic its reference batch, where it compares images with others."""
    for batch in normals():
        critic.remember(batch.x)
        return


class Generated(Section):
    """|x - G(E(x))| as map, A = A_img + kappa A_feat as score (f-AnoGAN; Schlegl et al. 2019, eq. 7).

    A_img is the mean squared residual, A_feat that of a critic's features.

    Attributes
    ----------
    critic : str, optional
        Whose features; without one A is A_img.
    """

    type: Literal["generated"] = "generated"
    encoder: str
    generator: str
    critic: str | None = None
    kappa: NotNegative = 1.0

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.encoder, self.generator, *([self.critic] if self.critic else [])})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Generated(self, networks)


class _Generated(Scorer):
    def __init__(self, plan: Generated, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.kappa = plan.kappa
        self.encoder = encoder_of(networks, plan.encoder)
        self.generator = generator_of(networks, plan.generator)
        self.critic = None if plan.critic is None else critic_of(networks, plan.critic)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        found = self.generator.decode(self.encoder.encode(x, position).z)
        image = (x - found).square().flatten(1).mean(dim=1)
        if self.critic is not None:
            features = self.critic.judge(x).features - self.critic.judge(found).features
            image = image + self.kappa * features.square().mean(dim=1)
        return Scored(image=image, pixel=(x - found).abs().mean(dim=1, keepdim=True), reconstruction=found)


class Recoding(Section):
    """How far the code of a reconstruction is from the code of the image (GANomaly; 001, section 2.2).

    Attributes
    ----------
    again : str, optional
        Encodes the reconstruction; the encoder itself unless named.
    normalise : str
        ``mad``: (e - median) / MAD of every element e of the absolute difference, from normals, with a
        floor; ``none``: the mean of e; ``covariance``: squared Mahalanobis length of the difference among
        those of normals, a share of the code's length.
    """

    type: Literal["recoding"] = "recoding"
    encoder: str
    generator: str
    again: str | None = None
    normalise: Literal["mad", "none", "covariance"] = "mad"

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.encoder, self.generator, *([self.again] if self.again else [])})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Recoding(self, networks)


class _Recoding(Scorer):
    centre: Tensor
    scale: Tensor
    whiten: Tensor

    def __init__(self, plan: Recoding, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.how = plan.normalise
        self.encoder = encoder_of(networks, plan.encoder)
        self.again = encoder_of(networks, plan.again or plan.encoder)
        self.generator = generator_of(networks, plan.generator)
        width = self.generator.code_shape[0]
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("whiten", torch.eye(width))

    @torch.no_grad()
    def fit(self, normals: Normals) -> None:
        if self.how == "none":
            return
        change = torch.cat([self._change(batch)[0] for batch in normals()])
        if self.how == "mad":
            self.centre.copy_(change.abs().median(dim=0).values)
            spread = (change.abs() - self.centre).abs().median(dim=0).values
            self.scale.copy_(spread.clamp(min=FLOOR))
            return
        self.centre.copy_(change.mean(dim=0))
        away = (change - self.centre).double()
        covariance = away.T @ away / max(1, len(away) - 1)
        typical = covariance.diagonal().mean().clamp(min=FLOOR**2)
        covariance = covariance + SHRINKAGE * typical * torch.eye(len(covariance), dtype=torch.float64)
        self.whiten.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))

    def _change(self, batch: Batch) -> tuple[Tensor, Tensor]:
        z = self.encoder.encode(batch.x, batch.position).z
        found = self.generator.decode(z)
        return z - self.again.encode(found, batch.position).z, found

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        change, found = self._change(Batch(x=x, mask=mask, position=position))
        if self.how == "covariance":
            image = ((change - self.centre) @ self.whiten).square().mean(dim=1)
        else:
            image = ((change.abs() - self.centre) / self.scale).mean(dim=1)
        return Scored(image=image, pixel=(x - found).abs().mean(dim=1, keepdim=True), reconstruction=found)


class Search(Section):
    """The code whose image is nearest to x, by a few steps in the graph (AnoGAN; Schlegl et al. 2017).

    (1 - share) mean |x - G(z)| + share mean |f(x) - f(G(z))|, from z = 0 or from an encoder's code.

    Attributes
    ----------
    steps : int
        The source takes 500.
    rate : float
        Root mean square change of a code's elements in a step; it falls linearly to 0.
    share : float
        Lambda of the source.
    """

    type: Literal["search"] = "search"
    generator: str
    critic: str
    encoder: str | None = None
    steps: Count = 5
    rate: Positive = 0.3
    share: Share = 0.1

    def names(self) -> frozenset[str]:
        """Networks the scorer reads."""
        return frozenset({self.generator, self.critic, *([self.encoder] if self.encoder else [])})

    def build(self, networks: nn.ModuleDict) -> Scorer:
        """The scorer of trained networks."""
        return _Search(self, networks)


class _Search(Scorer):
    def __init__(self, plan: Search, networks: nn.ModuleDict) -> None:
        super().__init__()
        self.plan = plan
        self.critic = critic_of(networks, plan.critic)
        self.generator = generator_of(networks, plan.generator)
        self.encoder = None if plan.encoder is None else encoder_of(networks, plan.encoder)

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> Scored:
        del mask
        plan = self.plan
        wanted = self.critic.judge(x).features
        if self.encoder is None:
            # Zeros that depend on x, so that the batch stays dynamic in the graph.
            z = x.flatten(1)[:, :1] * torch.zeros(1, *self.generator.code_shape)
        else:
            z = self.encoder.encode(x, position).z

        def away(code: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            image = self.generator.decode(code)
            features = (wanted - self.critic.judge(image).features).abs().mean(dim=1)
            each = (1 - plan.share) * (x - image).abs().flatten(1).mean(dim=1) + plan.share * features
            return each.sum(), (each, image)

        for number in range(plan.steps):
            slope = torch.func.grad(away, has_aux=True)(z)[0]
            size = slope.square().mean(dim=1, keepdim=True).sqrt()
            z = z - plan.rate * (1 - number / plan.steps) * slope / (size + 1e-12)
        _, (each, found) = away(z)
        return Scored(image=each, pixel=(x - found).abs().mean(dim=1, keepdim=True), reconstruction=found)

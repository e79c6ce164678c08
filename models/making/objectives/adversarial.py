"""Adversarial terms: what images, codes and pairs of both are asked, and what their critics are.

A term speaks of signals by name: ``x`` a normal, ``z`` a draw from the prior, ``fake`` = G(z),
``code`` = E(x), ``rec`` = G(E(x)), ``recode`` = E'(G(E(x))), ``fake_code`` = E(G(z)).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.adversarial import Critic, Decodes, Encodes, Judgement
from models.making.objectives.divergence import kl_divergence
from models.making.objectives.reconstruction import Reduction, reduce_samples
from models.making.passes import Batch, Code
from models.making.section import NotNegative, Positive, Section, Share

Signal = Literal["x", "z", "fake", "code", "rec", "recode", "fake_code"]
Given = Annotated[tuple[Signal, ...], Field(min_length=1)]
Contest = Literal["wasserstein", "logistic", "hinge"]
SMALLEST = 1e-12


class Cast(Section):
    """Which network plays which part.

    Attributes
    ----------
    encoder, generator : str, optional
        E and G; an autoencoder may be both.
    again : str, optional
        E', which encodes reconstructions; the encoder itself unless named.
    """

    encoder: str | None = None
    generator: str | None = None
    again: str | None = None

    def names(self) -> frozenset[str]:
        """Networks that play a part."""
        return frozenset(name for name in (self.encoder, self.generator, self.again) if name is not None)


def encoder_of(networks: nn.ModuleDict, name: str | None) -> Encodes:
    """The network that encodes.

    Raises
    ------
    TypeError
        If none is named, or it does not encode.
    """
    found: object = None if name is None else networks[name]
    if not isinstance(found, Encodes):
        raise TypeError(f"cast: {name or 'no network'} encodes no images")
    return found


def generator_of(networks: nn.ModuleDict, name: str | None) -> Decodes:
    """The network that generates.

    Raises
    ------
    TypeError
        If none is named, or it does not generate.
    """
    found: object = None if name is None else networks[name]
    if not isinstance(found, Decodes):
        raise TypeError(f"cast: {name or 'no network'} makes no images")
    return found


def critic_of(networks: nn.ModuleDict, name: str) -> Critic:
    """The network that judges.

    Raises
    ------
    TypeError
        If it does not judge.
    """
    found = networks[name]
    if not isinstance(found, Critic):
        raise TypeError(f"{name} is no critic")
    return found


@dataclass(slots=True, kw_only=True)
class Signals:
    """The signals of one step, each computed when it is first asked for and then kept.

    Attributes
    ----------
    detached : bool
        Of the networks that made them, as a critic wants them.
    step, steps : int
        Of the stage.
    """

    cast: Cast
    networks: nn.ModuleDict
    batch: Batch
    step: int = 0
    steps: int = 1
    detached: bool = False
    _kept: dict[str, Tensor] = field(default_factory=dict)
    _code: Code | None = None

    def __getitem__(self, name: Signal) -> Tensor:
        if name not in self._kept:
            with torch.set_grad_enabled(not self.detached):
                self._kept[name] = self._make(name)
        return self._kept[name]

    def code(self) -> Code:
        """The code of the normals with its posterior; drawn from it where there is one."""
        if self._code is None:
            encoder = encoder_of(self.networks, self.cast.encoder)
            self._code = encoder.encode(self.batch.x, self.batch.position, sample=True)
        return self._code

    def for_critics(self) -> "Signals":
        """What was made so far, cut from the networks that made it."""
        kept = {name: value.detach() for name, value in self._kept.items()}
        return Signals(
            cast=self.cast,
            networks=self.networks,
            batch=self.batch,
            step=self.step,
            steps=self.steps,
            detached=True,
            _kept=kept,
        )

    def _make(self, name: Signal) -> Tensor:
        match name:
            case "x":
                return self.batch.x
            case "z":
                shape = generator_of(self.networks, self.cast.generator).code_shape
                return torch.randn(len(self.batch.x), *shape, device=self.batch.x.device)
            case "code":
                return self.code().z
            case "fake" | "rec":
                code = self["z"] if name == "fake" else self["code"]
                return generator_of(self.networks, self.cast.generator).decode(code)
            case "recode":
                return self._encoded(self.cast.again or self.cast.encoder, self["rec"])
            case "fake_code":
                return self._encoded(self.cast.encoder, self["fake"])

    def _encoded(self, name: str | None, image: Tensor) -> Tensor:
        return encoder_of(self.networks, name).encode(image, self.batch.position).z


def contest(how: Contest, logit: Tensor, *, real: bool, soft: float = 0.0) -> Tensor:
    """What a critic pays for a logit, mean over the batch; high logits are real.

    Parameters
    ----------
    soft : float
        How far labels are from 0 and 1, for ``logistic``.
    """
    signed = logit.float() if real else -logit.float()
    match how:
        case "wasserstein":
            return -signed.mean()
        case "hinge":
            return functional.relu(1 - signed).mean()
        case "logistic":
            return ((1 - soft) * functional.softplus(-signed) + soft * functional.softplus(signed)).mean()


def gradient_penalty(
    judge: Callable[..., Judgement], real: tuple[Tensor, ...], fake: tuple[Tensor, ...]
) -> Tensor:
    """Mean of (norm of the critic's gradient - 1)² between real and fake (Gulrajani et al. 2017, eq. 3).

    The point is between the two, u x + (1 - u) x', with one u a sample; the norm is over every axis of
    everything the critic was given.
    """
    points = []
    share = torch.rand(len(real[0]), device=real[0].device)
    for first, second in zip(real, fake, strict=True):
        u = share.reshape(-1, *[1] * (first.ndim - 1))
        points.append((u * first.float() + (1 - u) * second.float()).detach().requires_grad_())
    with torch.enable_grad():
        logit = judge(*points).logit
        slopes = torch.autograd.grad(logit.float().sum(), points, create_graph=True)
    square = sum((slope.float().flatten(1).square().sum(dim=1) for slope in slopes), torch.zeros_like(share))
    return (((square + SMALLEST).sqrt() - 1) ** 2).mean()


class Judging(Section):
    """One contest of a critic.

    Attributes
    ----------
    real, fake : tuple of str
        Signals the critic is given, in its order.
    penalty : float
        Weight of the gradient penalty; 0: none.
    drift : float
        Weight of the squared logit of the real, which keeps a Wasserstein critic near 0.
    soft : float
        How far labels are from 0 and 1.
    """

    critic: str
    real: Given = ("x",)
    fake: Given
    loss: Contest = "wasserstein"
    penalty: NotNegative = 0.0
    drift: NotNegative = 0.0
    soft: Share = 0.0
    weight: Positive = 1.0

    def compute(self, signals: Signals) -> Tensor:
        """Scalar that goes down as the critic tells real from fake."""
        critic = critic_of(signals.networks, self.critic)
        real = tuple(signals[name] for name in self.real)
        fake = tuple(signals[name] for name in self.fake)
        logit = critic.judge(*real).logit
        total = contest(self.loss, logit, real=True, soft=self.soft)
        total = total + contest(self.loss, critic.judge(*fake).logit, real=False, soft=self.soft)
        if self.penalty:
            total = total + self.penalty * gradient_penalty(critic.judge, real, fake)
        if self.drift:
            total = total + self.drift * logit.float().square().mean()
        return self.weight * total


class Request(Section):
    """A term that the networks, not the critics, go down.

    Attributes
    ----------
    weight : float
        What the term is multiplied by.
    """

    weight: Positive = 1.0

    def names(self) -> frozenset[str]:
        """Networks the term needs beside the cast."""
        return frozenset()

    def compute(self, signals: Signals) -> Tensor:
        """Scalar, before the weight."""
        raise NotImplementedError


class Fooling(Request):
    """Be taken for real, or for fake, by a critic.

    Attributes
    ----------
    as_real : bool
        An encoder of BiGAN wants its own pairs taken for fake, as the generator wants its own for real.
    """

    type: Literal["fool"] = "fool"
    critic: str
    of: Given
    loss: Contest = "wasserstein"
    as_real: bool = True

    def names(self) -> frozenset[str]:
        """The critic."""
        return frozenset({self.critic})

    def compute(self, signals: Signals) -> Tensor:
        """Scalar; for ``hinge`` the logit itself, as in the source (Lim & Ye 2017)."""
        logit = critic_of(signals.networks, self.critic).judge(*(signals[name] for name in self.of)).logit
        how = "wasserstein" if self.loss == "hinge" else self.loss
        return contest(how, logit, real=self.as_real)


class Matching(Request):
    """One signal is to equal another: images, or codes (code-match).

    Attributes
    ----------
    distance : str
        ``l2`` is squared, not halved.
    """

    type: Literal["match"] = "match"
    of: Signal
    to: Signal
    distance: Literal["l1", "l2"] = "l2"
    reduce: Reduction = "mean"

    def compute(self, signals: Signals) -> Tensor:
        """Scalar."""
        wrong = signals[self.of].float() - signals[self.to].float()
        return reduce_samples(wrong.abs() if self.distance == "l1" else wrong.square(), self.reduce)


class FeatureMatching(Request):
    """A critic's features of one image are to equal those of another (Salimans 2016, section 3.1)."""

    type: Literal["features"] = "features"
    critic: str
    of: Signal = "rec"
    to: Signal = "x"
    reduce: Reduction = "mean"

    def names(self) -> frozenset[str]:
        """The critic."""
        return frozenset({self.critic})

    def compute(self, signals: Signals) -> Tensor:
        """Scalar."""
        critic = critic_of(signals.networks, self.critic)
        with torch.no_grad():
            wanted = critic.judge(signals[self.to]).features
        wrong = critic.judge(signals[self.of]).features.float() - wanted.float()
        return reduce_samples(wrong.square(), self.reduce)


class Divergence(Request):
    """KL of the encoder's posterior from N(0, I), summed over the code."""

    type: Literal["kl"] = "kl"

    def compute(self, signals: Signals) -> Tensor:
        """Scalar."""
        return kl_divergence(signals.code()).mean()


AnyRequest = Annotated[Fooling | Matching | FeatureMatching | Divergence, Field(discriminator="type")]

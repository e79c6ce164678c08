"""Generators, encoders and critics of adversarial methods."""

from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from models.making.networks.attention import MinibatchDiscrimination, spectral
from models.making.networks.dcgan import AnyBody
from models.making.networks.layers import Activation, activation
from models.making.passes import Code, Network, Output, Shape
from models.making.section import Count, Section


@runtime_checkable
class Encodes(Protocol):
    """What turns images into codes: an autoencoder, an encoder, or a critic with a code of its own."""

    def encode(self, x: Tensor, position: Tensor, *, sample: bool = False) -> Code:
        """Code of (batch, channels, rows, columns)."""


@runtime_checkable
class Decodes(Protocol):
    """What turns codes into images: an autoencoder or a generator."""

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of one image's code."""

    def decode(self, z: Tensor) -> Tensor:
        """(batch, *code) → (batch, channels, rows, columns)."""


class Judgement(NamedTuple):
    """What a critic says: a logit, high is real, (batch,), and its last features, (batch, n)."""

    logit: Tensor
    features: Tensor


class Critic(Network):
    """Judges images, codes, or both."""

    def judge(self, *given: Tensor) -> Judgement:
        """Judgement of what the record hands to the critic, in its order."""
        raise NotImplementedError

    def remember(self, *given: Tensor) -> None:
        """Keep a batch of normals, where the judgement depends on others; nothing by default."""
        del given


class GeneratorPlan(Section):
    """Code → image.

    Attributes
    ----------
    code : int
        Length of z, which is drawn from N(0, I).
    final : str
        Activation of the image.
    """

    type: Literal["generator"] = "generator"
    code: Count
    body: AnyBody
    final: Literal["none", "tanh", "sigmoid"] = "none"

    def build(self, shape: Shape) -> "Generator":
        """The network for images of a shape."""
        return Generator(self, shape)


class Generator(Network):
    """Code → image. ``run`` draws codes and gives the images of them."""

    def __init__(self, plan: GeneratorPlan, shape: Shape) -> None:
        super().__init__()
        self.code_shape = (plan.code,)
        self.inner = plan.body.inner(shape)
        self.enter = nn.Linear(plan.code, self.inner.numel)
        self.body = plan.body.up(shape)
        self.final = activation(plan.final)

    def decode(self, z: Tensor) -> Tensor:
        """(batch, code) → (batch, channels, rows, columns)."""
        found: Tensor = self.final(self.body(self.enter(z).unflatten(1, tuple(self.inner))))
        return found

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Images of drawn codes, or of the code 0."""
        del position
        z = torch.randn(len(x), *self.code_shape, device=x.device)
        z = z if sample else torch.zeros_like(z)
        return Output(image=self.decode(z), code=Code(z=z))


class EncoderPlan(Section):
    """Image → code.

    Attributes
    ----------
    bound : str
        Activation of the code.
    """

    type: Literal["encoder"] = "encoder"
    code: Count
    body: AnyBody
    bound: Literal["none", "tanh"] = "none"

    def build(self, shape: Shape) -> "Encoder":
        """The network for images of a shape."""
        return Encoder(self, shape)


class Encoder(Network):
    """Image → code."""

    def __init__(self, plan: EncoderPlan, shape: Shape) -> None:
        super().__init__()
        self.body = plan.body.down(shape)
        self.leave = nn.Linear(plan.body.inner(shape).numel, plan.code)
        self.bound = activation(plan.bound)

    def encode(self, x: Tensor, position: Tensor, *, sample: bool = False) -> Code:
        """(batch, channels, rows, columns) → code."""
        del position, sample
        return Code(z=self.bound(self.leave(self.body(x).flatten(1))))

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """The code."""
        return Output(code=self.encode(x, position, sample=sample))


class CriticPlan(Section):
    """Image → logit and features; with a code, the encoder of GANomaly as well (three roles).

    Attributes
    ----------
    code : int
        Length of the code that a second head gives; 0: there is none.
    minibatch : int
        Numbers of minibatch discrimination; 0: none.
    spectral : bool
        Of the last layer; that of the body is the body's own.
    """

    type: Literal["critic"] = "critic"
    body: AnyBody
    code: Annotated[int, Field(ge=0)] = 0
    minibatch: Annotated[int, Field(ge=0)] = 0
    spectral: bool = False

    def build(self, shape: Shape) -> "ImageCritic":
        """The network for images of a shape."""
        return ImageCritic(self, shape)


class ImageCritic(Critic):
    """Image → logit, features and, for GANomaly, code."""

    def __init__(self, plan: CriticPlan, shape: Shape) -> None:
        super().__init__()
        self.body = plan.body.down(shape)
        width = plan.body.inner(shape).numel
        self.code = nn.Linear(width, plan.code, bias=False) if plan.code else None
        self.minibatch = MinibatchDiscrimination(width, plan.minibatch) if plan.minibatch else None
        last = nn.Linear(width + plan.minibatch, 1)
        self.leave = spectral(last) if plan.spectral else last

    def judge(self, *given: Tensor) -> Judgement:
        """Judgement of (batch, channels, rows, columns)."""
        (x,) = given
        features = self.body(x).flatten(1)
        seen = features if self.minibatch is None else self.minibatch(features)
        return Judgement(self.leave(seen)[:, 0], features)

    def remember(self, *given: Tensor) -> None:
        """Keep a batch of normals for minibatch discrimination."""
        (x,) = given
        if self.minibatch is not None:
            self.minibatch.remember(self.body(x).flatten(1))

    def encode(self, x: Tensor, position: Tensor, *, sample: bool = False) -> Code:
        """(batch, channels, rows, columns) → code.

        Raises
        ------
        TypeError
            If the critic was built without a code.
        """
        del position, sample
        if self.code is None:
            raise TypeError("this critic has no code; give it one in the record")
        return Code(z=self.code(self.body(x).flatten(1)))

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Logit and features."""
        del position, sample
        logit, features = self.judge(x)
        return Output(logit=logit, features=features)


class _Layers(nn.Sequential):
    """Linear layers, each with its activation."""

    def __init__(self, widths: tuple[int, ...], name: Activation) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation(name)]
        super().__init__(*layers)


class CodeCriticPlan(Section):
    """Code → logit.

    Attributes
    ----------
    code : int
        Numbers of a code, flat.
    minibatch : int
        Numbers of minibatch discrimination; 0: none.
    """

    type: Literal["code_critic"] = "code_critic"
    code: Count
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (100, 50)
    activation: Activation = "leaky02"
    minibatch: Annotated[int, Field(ge=0)] = 0

    def build(self, shape: Shape) -> "CodeCritic":
        """The network; the image's shape does not matter."""
        del shape
        return CodeCritic(self)


class CodeCritic(Critic):
    """Code → logit."""

    def __init__(self, plan: CodeCriticPlan) -> None:
        super().__init__()
        self.layers = _Layers((plan.code, *plan.widths), plan.activation)
        width = plan.widths[-1]
        self.minibatch = MinibatchDiscrimination(width, plan.minibatch) if plan.minibatch else None
        self.leave = nn.Linear(width + plan.minibatch, 1)

    def judge(self, *given: Tensor) -> Judgement:
        """Judgement of (batch, ...)."""
        (z,) = given
        features = self.layers(z.flatten(1))
        seen = features if self.minibatch is None else self.minibatch(features)
        return Judgement(self.leave(seen)[:, 0], features)

    def remember(self, *given: Tensor) -> None:
        """Keep a batch of normals for minibatch discrimination."""
        (z,) = given
        if self.minibatch is not None:
            self.minibatch.remember(self.layers(z.flatten(1)))


class PairCriticPlan(Section):
    """Image and code → logit (BiGAN; Donahue et al. 2017. ALI; Dumoulin et al. 2017).

    Attributes
    ----------
    code : int
        Numbers of a code, flat.
    code_widths, widths : tuple of int
        Of the layers that the code runs through, and of those behind the join.
    """

    type: Literal["pair_critic"] = "pair_critic"
    body: AnyBody
    code: Count
    code_widths: tuple[Count, ...] = (64, 64)
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (128, 128)

    def build(self, shape: Shape) -> "PairCritic":
        """The network for images of a shape."""
        return PairCritic(self, shape)


class PairCritic(Critic):
    """Image and code → logit."""

    def __init__(self, plan: PairCriticPlan, shape: Shape) -> None:
        super().__init__()
        self.body = plan.body.down(shape)
        codes = (plan.code, *plan.code_widths)
        self.codes = _Layers(codes, "leaky02")
        self.joined = _Layers((plan.body.inner(shape).numel + codes[-1], *plan.widths), "leaky02")
        self.leave = nn.Linear(plan.widths[-1], 1)

    def judge(self, *given: Tensor) -> Judgement:
        """Judgement of (batch, channels, rows, columns) and (batch, ...)."""
        x, z = given
        features = self.joined(torch.cat([self.body(x).flatten(1), self.codes(z.flatten(1))], dim=1))
        return Judgement(self.leave(features)[:, 0], features)

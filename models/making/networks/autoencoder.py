"""Encoder, neck and decoder as one network."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.making.networks.mixture import MixtureNeck
from models.making.networks.mlp import MlpDecoder, MlpEncoder
from models.making.networks.necks import DenseNeck, GaussianNeck, SpatialNeck
from models.making.networks.quantised import QuantisedNeck
from models.making.networks.strided import StridedDecoder, StridedEncoder
from models.making.passes import Code, Network, Output, Shape
from models.making.section import Section

AnyEncoder = Annotated[StridedEncoder | MlpEncoder, Field(discriminator="type")]
AnyDecoder = Annotated[StridedDecoder | MlpDecoder, Field(discriminator="type")]
AnyNeck = Annotated[
    SpatialNeck | DenseNeck | GaussianNeck | MixtureNeck | QuantisedNeck,
    Field(discriminator="type"),
]


LIMIT = 10.0  # Log variances of pixels stay within plus and minus this.


class AutoencoderPlan(Section):
    """An autoencoder of any family: what makes it variational or quantised is its neck.

    Attributes
    ----------
    uncertain : bool
        The decoder gives the log variance of every pixel beside the pixel (Mao et al. 2020).
    """

    type: Literal["autoencoder"] = "autoencoder"
    encoder: AnyEncoder
    neck: AnyNeck
    decoder: AnyDecoder
    uncertain: bool = False

    def build(self, shape: Shape) -> "Autoencoder":
        """The network for images of a shape."""
        return Autoencoder(self, shape)


class Autoencoder(Network):
    """Image → code → image.

    Parameters
    ----------
    plan : AutoencoderPlan
    shape : Shape
        Of the images.
    """

    def __init__(self, plan: AutoencoderPlan, shape: Shape) -> None:
        super().__init__()
        self.encoder = plan.encoder.build(shape)
        self.neck = plan.neck.build(self.encoder.inner)
        answer = shape._replace(channels=shape.channels * (2 if plan.uncertain else 1))
        self.decoder = plan.decoder.build(self.encoder.inner, answer)
        self.uncertain = plan.uncertain
        self.shape = shape

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of one image's code."""
        with torch.no_grad():
            was_training = self.training
            self.eval()
            found = self.encode(torch.zeros(1, *self.shape), torch.zeros(1)).z.shape[1:]
            self.train(was_training)
        return tuple(found)

    def encode(self, x: Tensor, position: Tensor, *, sample: bool = False) -> Code:
        """Code of images; its mean unless ``sample``."""
        return self.neck.encode(self.encoder(x, position), sample=sample)

    def decode(self, z: Tensor) -> Tensor:
        """(batch, *code) → (batch, channels, rows, columns)."""
        return self._decode(z)[0]

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        found: Tensor = self.decoder(self.neck.decode(z))
        if not self.uncertain:
            return found, None
        image, log_scale = found.chunk(2, dim=1)
        return image, log_scale.clamp(-LIMIT, LIMIT)

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Reconstruction and code."""
        code = self.encode(x, position, sample=sample)
        image, log_scale = self._decode(code.z)
        return Output(image=image, log_scale=log_scale, code=code)

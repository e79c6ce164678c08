"""A Laplacian pyramid with an autoencoder for each band (scale-space autoencoder; Baur et al. 2020).

The levels are split by a 5 by 5 binomial blur and halving; each band is encoded for itself, and the image is
put together from the coarsest up. What is compared is the accumulated image at every scale.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.autoencoder import Autoencoder, AutoencoderPlan
from models.making.passes import Code, Network, Output, Shape
from models.making.section import Section


class PyramidPlan(Section):
    """Bands from the finest to the coarsest, each half the size of the one before.

    Attributes
    ----------
    bands : tuple of AutoencoderPlan
    """

    type: Literal["pyramid"] = "pyramid"
    bands: Annotated[tuple[AutoencoderPlan, ...], Field(min_length=2)]

    def build(self, shape: Shape) -> "Pyramid":
        """The network for images of a shape."""
        return Pyramid(self, shape)


class Pyramid(Network):
    """Image → bands → image."""

    kernel: Tensor

    def __init__(self, plan: PyramidPlan, shape: Shape) -> None:
        super().__init__()
        self.bands = nn.ModuleList(
            band.build(Shape(shape.channels, shape.rows >> level, shape.columns >> level))
            for level, band in enumerate(plan.bands)
        )
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        kernel = (line[:, None] * line[None, :]).repeat(shape.channels, 1, 1, 1)
        self.register_buffer("kernel", kernel)

    def split(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Bands, and the image at every scale, the finest first."""
        images = [x]
        for _ in range(len(self.bands) - 1):
            images.append(self._down(images[-1]))
        bands = [fine - self._up(coarse) for fine, coarse in pairwise(images)]
        return [*bands, images[-1]], images

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Reconstruction, the codes of all bands in one, and ``scales``: L1 of every scale but the finest."""
        bands, images = self.split(x)
        found = [
            band.run(part, position, sample=sample)
            for band, part in zip(self._autoencoders(), bands, strict=True)
        ]
        image: Tensor | None = None
        scales = x.new_zeros(x.shape[0])
        for level in reversed(range(len(bands))):
            part = found[level].image
            if part is None:
                raise TypeError("a band answers with an image")
            image = part if image is None else part + self._up(image)
            if level:
                scales = scales + (image - images[level]).abs().flatten(1).sum(dim=1)
        codes = [answer.code for answer in found if answer.code is not None]
        return Output(image=image, code=joined(codes, scales))

    def residuals(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over scales of |x - x'|, each scale brought to full size; and the reconstruction."""
        bands, images = self.split(x)
        image: Tensor | None = None
        total = torch.zeros_like(x[:, :1])
        for level, band in reversed(list(enumerate(self._autoencoders()))):
            part = band.run(bands[level], position, sample=False).image
            if part is None:
                raise TypeError("a band answers with an image")
            image = part if image is None else part + self._up(image)
            wrong = (image - images[level]).abs().mean(dim=1, keepdim=True)
            total = total + functional.interpolate(wrong, scale_factor=float(2**level), mode="nearest")
        if image is None:
            raise TypeError("a pyramid has bands")
        return total / len(bands), image

    def _autoencoders(self) -> list[Autoencoder]:
        return [band for band in self.bands if isinstance(band, Autoencoder)]

    def _down(self, x: Tensor) -> Tensor:
        blurred = functional.conv2d(
            functional.pad(x, [2, 2, 2, 2], mode="replicate"), self.kernel, groups=x.shape[1]
        )
        return functional.avg_pool2d(blurred, 2)

    def _up(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def joined(codes: list[Code], scales: Tensor) -> Code:
    """Codes of all bands as one flat code."""
    z = torch.cat([code.z.flatten(1) for code in codes], dim=1)
    means = [code.mean.flatten(1) for code in codes if code.mean is not None]
    logs = [code.log_variance.flatten(1) for code in codes if code.log_variance is not None]
    is_gaussian = len(means) == len(codes)
    return Code(
        z=z,
        mean=torch.cat(means, dim=1) if is_gaussian else None,
        log_variance=torch.cat(logs, dim=1) if is_gaussian else None,
        losses={"scales": scales},
    )

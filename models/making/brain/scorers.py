"""The scoring module that is exported: both networks, the KL gradient and the combi score in one graph."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.making.brain.networks import Denoiser, VariationalAutoencoder
from models.making.brain.objectives import kl_divergence, l1_sum

OUTPUTS = ("elbo", "combi", "reconstructed_residual", "denoised_residual")
GRADIENT_KERNEL = (
    5  # Pixels; smoothing the gradient is part of the score, stride-2 kernels leave a checkerboard.
)
GRADIENT_SIGMA = 1.0


def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """Normalised Gaussian, shape (1, 1, size, size)."""
    line = torch.exp(-0.5 * ((torch.arange(size) - size // 2) / sigma) ** 2)
    plane = line[:, None] * line[None, :]
    return (plane / plane.sum())[None, None]


class Scorer(nn.Module):
    """Slices with context and position → scores. Deterministic: the code's mean, no sampling.

    Parameters
    ----------
    cevae, denoiser
        Trained members.
    middle : int
        Channel of the scored slice.
    gradient_scale : float
        The 99.9th percentile of the smoothed KL gradient on normal training slices: a stored constant,
        never a minimum or maximum of the batch, so a slice's score does not depend on its neighbours.
    """

    kernel: Tensor
    gradient_scale: Tensor

    def __init__(
        self, cevae: VariationalAutoencoder, denoiser: Denoiser, *, middle: int, gradient_scale: float
    ) -> None:
        super().__init__()
        self.cevae = cevae
        self.denoiser = denoiser
        self.middle = middle
        self.register_buffer("kernel", gaussian_kernel(GRADIENT_KERNEL, GRADIENT_SIGMA))
        self.register_buffer("gradient_scale", torch.tensor(gradient_scale))

    def kl_gradient(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Smoothed absolute gradient of the KL at the slice, with the KL and the mean code.

        Returns
        -------
        gradient : (batch, 1, rows, columns)
        kl : (batch,)
        mean : (batch, latent)
        """

        def total(image: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            mean, log_variance = self.cevae.encode(image, position)
            kl = kl_divergence(mean, log_variance)
            return kl.sum(), (kl, mean)

        gradient, (kl, mean) = torch.func.grad(total, has_aux=True)(x)
        smooth = functional.conv2d(gradient.abs(), self.kernel, padding=GRADIENT_KERNEL // 2)
        return smooth, kl, mean

    def forward(self, slices: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(batch, context, rows, columns), (batch,) → the four ``OUTPUTS``.

        ``elbo`` (batch,) is KL plus L1; the others are (batch, 1, rows, columns), 0 outside tissue:
        ``combi`` is the absolute residual times the scaled KL gradient, the residuals keep their sign
        (positive is brighter than expected).
        """
        x = slices[:, self.middle : self.middle + 1]
        tissue = (x > 0).to(x.dtype)
        gradient, kl, mean = self.kl_gradient(x, position)
        residual = (x - self.cevae.decode(mean, position)) * tissue
        elbo = kl + l1_sum(residual, torch.zeros_like(residual))
        combi = residual.abs() * gradient / self.gradient_scale
        return elbo, combi, residual, self.denoiser(slices, position) * tissue

"""Training losses: sums over pixels and codes, means over the batch. The reduction sets the KL's weight."""

import torch
from torch import Generator, Tensor

from models.making.brain.networks import Denoiser, VariationalAutoencoder


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, exp(log_variance)) from N(0, 1), summed over the code; (batch,)."""
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(dim=1)


def l1_sum(x: Tensor, y: Tensor) -> Tensor:
    """Absolute difference summed over a slice; (batch,)."""
    return (x - y).abs().flatten(1).sum(dim=1)


def context_encoding_loss(
    network: VariationalAutoencoder,
    x: Tensor,
    corrupted: Tensor,
    position: Tensor,
    *,
    factor: float,
    generator: Generator,
) -> Tensor:
    """ceVAE: (1 - f) (KL + L1 of a sampled code) + f L1 of the corrupted slice's mean code.

    The corrupted branch has no KL and is compared with the clean slice (dissertation eq. 3.13; the
    factor is that of the reference code).

    Returns
    -------
    Scalar, mean over the batch.
    """
    mean, log_variance = (part.float() for part in network.encode(x, position))
    noise = torch.randn(mean.shape, generator=generator)
    sampled = mean + (0.5 * log_variance).exp() * noise
    variational = kl_divergence(mean, log_variance) + l1_sum(network.decode(sampled, position).float(), x)
    repaired = network.decode(network.encode(corrupted, position)[0], position).float()
    loss: Tensor = ((1 - factor) * variational + factor * l1_sum(repaired, x)).mean()
    return loss


def denoising_loss(network: Denoiser, x: Tensor, noise: Tensor, position: Tensor, middle: int) -> Tensor:
    """Squared error of the predicted noise in the middle slice, summed over tissue, mean over the batch."""
    predicted = network(x + noise, position).float()
    tissue = (x[:, middle : middle + 1] > 0).float()
    wrong = (predicted - noise[:, middle : middle + 1]) * tissue
    loss: Tensor = (wrong**2).flatten(1).sum(dim=1).mean()
    return loss

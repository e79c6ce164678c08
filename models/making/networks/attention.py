"""Layers of adversarial networks: self-attention, minibatch discrimination, spectral norm and its folding."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize


class SelfAttention(nn.Module):
    """Every place of a map looks at every other one (SAGAN; Zhang et al. 2019). Starts as the identity.

    Parameters
    ----------
    channels : int
        Queries and keys have an eighth of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, rows, columns) → the same."""
        query, key, value = (part(features).flatten(2) for part in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        seen: Tensor = (value @ weights.transpose(1, 2)).unflatten(2, features.shape[2:])
        return features + self.gain * seen


class MinibatchDiscrimination(nn.Module):
    """How alike an image is to the others of its batch (Salimans et al. 2016, section 3.2).

    A score must not change with what else is in the batch. So in eval mode an image is compared with a
    reference batch of normals, kept in a buffer, instead of with its neighbours; without one the term is 0.

    Parameters
    ----------
    width : int
        Features that are compared.
    kernels, size : int
        Numbers that are appended, and length of the vectors behind each.
    """

    REFERENCES = 16
    reference: Tensor
    known: Tensor

    def __init__(self, width: int, kernels: int, size: int = 8) -> None:
        super().__init__()
        self.kernels, self.size = kernels, size
        self.project = nn.Linear(width, kernels * size, bias=False)
        self.register_buffer("reference", torch.zeros(self.REFERENCES, kernels, size))
        self.register_buffer("known", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, width) → (batch, width + kernels)."""
        rows = self.project(features).float().unflatten(1, (self.kernels, self.size))
        others = rows if self.training else self.reference
        likeness = (-(rows[:, None] - others[None]).abs().sum(dim=3)).exp()
        if self.training:
            alike = (likeness.sum(dim=1) - 1) / max(1, len(rows) - 1)  # without the image itself
        else:
            alike = likeness.mean(dim=1) * self.known
        return torch.cat([features.float(), alike], dim=1)

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Keep normals as the reference batch; fewer than it holds are repeated."""
        rows = self.project(features).float().unflatten(1, (self.kernels, self.size))
        index = torch.arange(self.REFERENCES, device=rows.device) % len(rows)
        self.reference.copy_(rows[index])
        self.known.fill_(1)


def spectral(layer: nn.Module) -> nn.Module:
    """A layer whose weight is divided by its largest singular value (Miyato et al. 2018)."""
    found: nn.Module = parametrizations.spectral_norm(layer)
    return found


def fold_spectral(module: nn.Module) -> None:
    """Replace every spectrally normalised weight by its present value, for export."""
    module.eval()
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

"""A one-class support vector machine with a radial kernel, as buffers of an exported graph."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.svm import OneClassSVM
from torch import Tensor, nn

MOST_SUPPORT = 2000  # Normals the machine is fitted to; more only make the graph larger.
SEED = 0


class OneClassPrior(nn.Module):
    """Vectors → how little of the support of normals is near them (Schoelkopf et al. 2001).

    Parameters
    ----------
    length : int
        Of a vector.
    components : int
        Principal components kept before the kernel; 0: none, all of the vector.
    nu : float
        Share of normals that may be outside.
    """

    centre: Tensor
    axes: Tensor
    support: Tensor
    weight: Tensor
    gamma: Tensor

    def __init__(self, length: int, components: int, nu: float) -> None:
        super().__init__()
        self.components, self.nu = components, nu
        self.register_buffer("centre", torch.zeros(length))
        self.register_buffer("axes", torch.eye(length))
        self.register_buffer("support", torch.zeros(1, length))
        self.register_buffer("weight", torch.ones(1))
        self.register_buffer("gamma", torch.tensor(1.0))

    def fit(self, vectors: Tensor) -> None:
        """Fit to the vectors of normals, (n, length)."""
        values = vectors.double().numpy()
        if len(values) > MOST_SUPPORT:
            values = values[np.random.default_rng(SEED).permutation(len(values))[:MOST_SUPPORT]]
        self.centre = torch.from_numpy(values.mean(axis=0)).float()
        values = values - values.mean(axis=0)
        if self.components:
            kept = min(self.components, *values.shape)
            found = PCA(kept, svd_solver="full").fit(values)
            self.axes = torch.from_numpy(found.components_).float()
            values = found.transform(values)
        machine = OneClassSVM(kernel="rbf", nu=self.nu, gamma="scale").fit(values)
        self.support = torch.from_numpy(machine.support_vectors_).float()
        self.weight = torch.from_numpy(machine.dual_coef_[0]).float()
        self.gamma = torch.tensor(1.0 / (values.shape[1] * values.var()))

    def outside(self, vectors: Tensor) -> Tensor:
        """(batch, length) → (batch,).

        The machine's decision value with its sign turned and without its constant offset, which moves no
        rank and costs digits.
        """
        x = (vectors - self.centre) @ self.axes.T
        # |x - s|² without a (batch, support, length) tensor.
        away = (x**2).sum(1, keepdim=True) - 2 * x @ self.support.T + (self.support**2).sum(1)
        kernel = torch.exp(-self.gamma * away.clamp(min=0))
        return -(kernel @ self.weight)

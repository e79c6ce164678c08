"""A Gaussian mixture fitted to the codes of normals, as buffers of an exported graph."""

import math

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

SEED = 0
TOLERANCE = 0.1  # Of expectation maximisation (Zimmerer's dissertation, section 3.2.3).
SHRINKAGE = 0.1  # Of the mean variance, times length by number of codes: few normals, singular covariances.


class MixturePrior(nn.Module):
    """Codes → negative log-likelihood.

    Parameters
    ----------
    components : int
    length : int
        Of a code.
    """

    mean: Tensor
    precision: Tensor
    offset: Tensor

    def __init__(self, components: int, length: int) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("mean", torch.zeros(components, length))
        self.register_buffer("precision", torch.eye(length).repeat(components, 1, 1))
        self.register_buffer("offset", torch.zeros(components))

    def fit(self, codes: Tensor) -> None:
        """Fit full covariances in double precision.

        Parameters
        ----------
        codes : (n, length)
            Of un-augmented training normals; fewer components are used where n asks for it.
        """
        values = codes.double().numpy()
        k = max(1, min(self.components, len(values) // 2))
        shrinkage = SHRINKAGE * min(values.shape[1] / len(values), 10.0)
        found = GaussianMixture(
            k,
            covariance_type="full",
            tol=TOLERANCE,
            reg_covar=max(shrinkage * float(values.var(axis=0).mean()), 1e-6),
            init_params="random_from_data",
            random_state=SEED,
        ).fit(values)
        cholesky = found.precisions_cholesky_  # (k, length, length), upper
        log_det = np.log(np.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1)
        offset = np.log(found.weights_) + log_det - 0.5 * values.shape[1] * math.log(2 * math.pi)
        # A component that was not fitted repeats the first with no weight.
        index = np.minimum(np.arange(self.components), k - 1)
        offset = np.where(np.arange(self.components) < k, offset[index], -np.inf)
        self.mean.copy_(torch.from_numpy(found.means_[index]))
        self.precision.copy_(torch.from_numpy(cholesky[index]))
        self.offset.copy_(torch.from_numpy(np.maximum(offset, -1e30)))

    def surprise(self, code: Tensor) -> Tensor:
        """(batch, length) → (batch,), nats."""
        away = code[:, None] - self.mean[None]  # (batch, k, length)
        scaled = torch.einsum("bkl,klm->bkm", away, self.precision)
        return -(self.offset - 0.5 * (scaled**2).sum(dim=2)).logsumexp(dim=1)

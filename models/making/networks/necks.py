"""Necks: what stands between encoder and decoder, and what of a code is random or quantised."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.making.networks.layers import BankedDropout
from models.making.passes import Code, Shape
from models.making.section import Count, Section, Share


class Neck(nn.Module):
    """Feature map → code → feature map."""

    def encode(self, features: Tensor, *, sample: bool) -> Code:
        """Code of (batch, *inner); drawn from its posterior if ``sample``."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Feature map (batch, *inner) of a code."""
        raise NotImplementedError


class SpatialNeck(Section):
    """No bottleneck but the feature map itself (Baur 2021, section III-B.2)."""

    type: Literal["spatial"] = "spatial"
    dropout: Share = 0.0

    def build(self, inner: Shape) -> Neck:
        """The neck of a feature map."""
        del inner
        return _Spatial(self.dropout)


class _Spatial(Neck):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = BankedDropout(dropout)

    def encode(self, features: Tensor, *, sample: bool) -> Code:
        del sample
        return Code(z=self.dropout(features))

    def decode(self, z: Tensor) -> Tensor:
        return z


class DenseNeck(Section):
    """One vector a image (Baur 2021, section III-B.1).

    Attributes
    ----------
    code : int
        Length of the vector.
    squeeze : int
        Channels to which a 1 by 1 convolution brings the feature map first; 0: none.
    dropout : float
        On the code.
    """

    type: Literal["dense"] = "dense"
    code: Count
    squeeze: int = 0
    dropout: Share = 0.0

    def build(self, inner: Shape) -> Neck:
        """The neck of a feature map."""
        return _Dense(inner, self.code, self.squeeze, self.dropout)


class _Squeezed(nn.Module):
    """1 by 1 convolution to fewer channels and back around a flat vector."""

    def __init__(self, inner: Shape, squeeze: int) -> None:
        super().__init__()
        self.shape = Shape(squeeze or inner.channels, inner.rows, inner.columns)
        self.enter = nn.Conv2d(inner.channels, squeeze, 1) if squeeze else nn.Identity()
        self.leave = nn.Conv2d(squeeze, inner.channels, 1) if squeeze else nn.Identity()

    def flat(self, features: Tensor) -> Tensor:
        """(batch, *inner) → (batch, numel of shape)."""
        found: Tensor = self.enter(features).flatten(1)
        return found

    def unflat(self, hidden: Tensor) -> Tensor:
        """(batch, numel of shape) → (batch, *inner)."""
        found: Tensor = self.leave(hidden.unflatten(1, tuple(self.shape)))
        return found


class _Dense(Neck):
    def __init__(self, inner: Shape, code: int, squeeze: int, dropout: float) -> None:
        super().__init__()
        self.squeeze = _Squeezed(inner, squeeze)
        self.enter = nn.Linear(self.squeeze.shape.numel, code)
        self.dropout = BankedDropout(dropout)
        self.leave = nn.Linear(code, self.squeeze.shape.numel)

    def encode(self, features: Tensor, *, sample: bool) -> Code:
        del sample
        return Code(z=self.dropout(self.enter(self.squeeze.flat(features))))

    def decode(self, z: Tensor) -> Tensor:
        return self.squeeze.unflat(self.leave(z))


class GaussianNeck(Section):
    """A Gaussian posterior with log-variance, sampled while training (Kingma & Welling 2014).

    Attributes
    ----------
    code : int
        Length of the code; with ``spatial``, channels of the code map.
    spatial : bool
        1 by 1 convolutions on the feature map instead of one vector.
    """

    type: Literal["gaussian"] = "gaussian"
    code: Count
    squeeze: int = 0
    dropout: Share = 0.0
    spatial: bool = False

    def build(self, inner: Shape) -> Neck:
        """The neck of a feature map."""
        return _Gaussian(self, inner)


class _Gaussian(Neck):
    def __init__(self, plan: GaussianNeck, inner: Shape) -> None:
        super().__init__()
        self.squeeze: _Squeezed | None = None
        self.dropout = BankedDropout(plan.dropout)
        if plan.spatial:
            self.mean: nn.Module = nn.Conv2d(inner.channels, plan.code, 1)
            self.log_variance: nn.Module = nn.Conv2d(inner.channels, plan.code, 1)
            self.leave: nn.Module = nn.Conv2d(plan.code, inner.channels, 1)
        else:
            self.squeeze = _Squeezed(inner, plan.squeeze)
            flat = self.squeeze.shape.numel
            self.mean = nn.Linear(flat, plan.code)
            self.log_variance = nn.Linear(flat, plan.code)
            self.leave = nn.Linear(plan.code, flat)

    def encode(self, features: Tensor, *, sample: bool) -> Code:
        hidden = features if self.squeeze is None else self.squeeze.flat(features)
        hidden = self.dropout(hidden)
        mean, log_variance = self.mean(hidden).float(), self.log_variance(hidden).float()
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if sample else mean
        return Code(z=z, mean=mean, log_variance=log_variance)

    def decode(self, z: Tensor) -> Tensor:
        hidden: Tensor = self.leave(z)
        return hidden if self.squeeze is None else self.squeeze.unflat(hidden)

"""Corrupters that add what a network must find: spheres, soft blobs, patches of another person; and views."""

from typing import Literal

import torch
from torch import Tensor

from models.making.augment import Augmentation
from models.making.corrupting import Corrupted, coarse_field, uniform
from models.making.passes import Batch
from models.making.section import Positive, Section, Share


class Spheres(Section):
    """A disc of random place, size and intensity in most images; the target is where it is.

    Attributes
    ----------
    share : float
        Of images that get one; the others teach that there may be nothing.
    size : tuple of float
        Radius as a share of the edge.
    strength : tuple of float
        Absolute change of intensity, its sign at random.
    soft : float
        Width of the edge as a share of the radius.
    """

    type: Literal["sphere"] = "sphere"
    share: Share = 0.75
    size: tuple[Share, Share] = (0.04, 0.2)
    strength: tuple[Positive, Positive] = (0.1, 0.6)
    soft: Positive = 0.3

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target, the target 0 to 1 of one channel."""
        n, _, rows, columns = batch.x.shape
        centre_y = uniform(0.2, 0.8, (n, 1, 1, 1), batch.x) * rows
        centre_x = uniform(0.2, 0.8, (n, 1, 1, 1), batch.x) * columns
        radius = uniform(*self.size, (n, 1, 1, 1), batch.x) * min(rows, columns)
        y = torch.arange(rows, device=batch.x.device)[None, None, :, None]
        x = torch.arange(columns, device=batch.x.device)[None, None, None, :]
        distance = ((y - centre_y) ** 2 + (x - centre_x) ** 2).sqrt()
        profile = ((radius - distance) / (self.soft * radius) + 0.5).clamp(0, 1)
        return _added(batch, profile, self.share, self.strength)


class SoftBlobs(Section):
    """Blobs of complex shape with smooth edges: a smooth random field above a threshold.

    Attributes
    ----------
    cells : tuple of int
        Distances of the field's nodes in pixels; one is drawn for each batch.
    level : tuple of float
        Threshold on the field of unit deviation; higher is smaller.
    """

    type: Literal["soft_blob"] = "soft_blob"
    share: Share = 0.75
    cells: tuple[int, ...] = (6, 10, 16)
    level: tuple[float, float] = (1.0, 2.0)
    strength: tuple[Positive, Positive] = (0.1, 0.6)

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target, the target 0 to 1 of one channel."""
        cell = self.cells[int(torch.randint(len(self.cells), (1,)))]
        field = coarse_field(batch.x[:, :1], cell)
        level = uniform(*self.level, (len(field), 1, 1, 1), batch.x)
        profile = (2 * (field - level) + 0.5).clamp(0, 1)
        return _added(batch, profile, self.share, self.strength)


class ForeignPatch(Section):
    """A square mixed with the same place of another image of the batch; the target is the share mixed in.

    Foreign patch interpolation (Tan et al. 2020; Zimmerer's dissertation, sections 4.1.3 and 4.2.2).

    Attributes
    ----------
    core : float
        Middle part of the image in which the square's centre lies.
    size : tuple of float
        Half width as a share of the edge.
    """

    type: Literal["foreign_patch"] = "foreign_patch"
    core: Share = 0.5
    size: tuple[Share, Share] = (0.05, 0.2)

    def apply(self, batch: Batch) -> Corrupted:
        """Given and target, the target 0 where the two images do not differ."""
        n, _, rows, columns = batch.x.shape
        other = batch.x.roll(1, dims=0)
        low, high = 0.5 - self.core / 2, 0.5 + self.core / 2
        centre_y = uniform(low, high, (n, 1, 1, 1), batch.x) * rows
        centre_x = uniform(low, high, (n, 1, 1, 1), batch.x) * columns
        half = uniform(*self.size, (n, 1, 1, 1), batch.x) * min(rows, columns)
        y = torch.arange(rows, device=batch.x.device)[None, None, :, None]
        x = torch.arange(columns, device=batch.x.device)[None, None, None, :]
        inside = ((y - centre_y).abs() <= half) & ((x - centre_x).abs() <= half)
        alpha = uniform(0.05, 0.95, (n, 1, 1, 1), batch.x) * inside
        given = (1 - alpha) * batch.x + alpha * other
        differs = (batch.x - other).abs().amax(dim=1, keepdim=True) > 1e-3  # noqa: PLR2004 - grey levels
        return Corrupted(given, alpha * differs)


class Views(Section):
    """Two views of each image for a contrastive loss: one is given, the other is the target.

    Attributes
    ----------
    change : Augmentation
    """

    type: Literal["views"] = "views"
    change: Augmentation = Augmentation(
        flip=0.5, rotate=10, shift=0.08, zoom=0.15, gain=0.15, gamma=0.1, noise=0.03
    )

    def apply(self, batch: Batch) -> Corrupted:
        """Both views."""
        return Corrupted(self.change.apply(batch).x, self.change.apply(batch).x)


def _added(batch: Batch, profile: Tensor, share: float, strength: tuple[float, float]) -> Corrupted:
    """Images with a profile (batch, 1, rows, columns) of random strength and sign inside the mask."""
    n = (len(profile), 1, 1, 1)
    chosen = (torch.rand(n, device=profile.device) < share).float()
    sign = torch.where(torch.rand(n, device=profile.device) < 0.5, -1.0, 1.0)  # noqa: PLR2004 - half of them
    profile = profile * batch.mask * chosen
    return Corrupted(batch.x + sign * uniform(*strength, n, profile) * profile, profile)

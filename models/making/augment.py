"""Random changes of normal images that leave them normal, drawn anew each step."""

import torch
from torch import Tensor
from torch.nn import functional

from models.making.passes import Batch
from models.making.section import NotNegative, Section, Share


class Augmentation(Section):
    """Mirror, affine and grey-value changes, each image with its own draw. All off by default.

    Attributes
    ----------
    flip, flip_rows : float
        Probability of exchanging left and right, or top and bottom.
    rotate : float
        Standard deviation, degrees.
    shift : float
        Standard deviation, share of the edge.
    zoom : float
        Standard deviation around 1.
    gain, gamma : float
        Standard deviation around 1 of a factor and of an exponent on the grey values.
    noise : float
        Standard deviation of independent noise.
    """

    flip: Share = 0.0
    flip_rows: Share = 0.0
    rotate: NotNegative = 0.0
    shift: NotNegative = 0.0
    zoom: NotNegative = 0.0
    gain: NotNegative = 0.0
    gamma: NotNegative = 0.0
    noise: NotNegative = 0.0

    def apply(self, batch: Batch) -> Batch:
        """A changed copy; before the network's normalisation, so 0 is background."""
        x, mask = batch.x, batch.mask
        if self.flip or self.flip_rows or self.rotate or self.shift or self.zoom:
            x, mask = self._moved(x, mask)
        n = (x.shape[0], 1, 1, 1)
        if self.gamma:
            exponent = (1 + self.gamma * torch.randn(n, device=x.device)).clamp(0.5, 2)
            x = torch.where(x > 0, x.clamp(min=1e-6) ** exponent, x)
        if self.gain:
            x = x * (1 + self.gain * torch.randn(n, device=x.device)).clamp(0.5, 2)
        if self.noise:
            x = x + self.noise * torch.randn_like(x) * mask
        return Batch(x=x, mask=mask, position=batch.position)

    def _moved(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Image and mask under the same affine map; the mask stays 0 or 1."""
        n = x.shape[0]
        angle = torch.deg2rad(self.rotate * torch.randn(n))
        zoom = (1 + self.zoom * torch.randn(n)).clamp(0.7, 1.4)
        left_right = torch.where(torch.rand(n) < self.flip, -1.0, 1.0)
        top_bottom = torch.where(torch.rand(n) < self.flip_rows, -1.0, 1.0)
        move = 2 * self.shift * torch.randn(2, n)
        crossed = angle.sin() * zoom * top_bottom
        matrix = torch.stack(
            [
                torch.stack([zoom * angle.cos() * left_right, -crossed, move[0]], dim=1),
                torch.stack(
                    [zoom * angle.sin() * left_right, angle.cos() * zoom * top_bottom, move[1]], dim=1
                ),
            ],
            dim=1,
        )
        grid = functional.affine_grid(matrix, [n, 1, x.shape[2], x.shape[3]], align_corners=False)
        grid = grid.to(x.device)
        image = functional.grid_sample(x, grid, mode="bilinear", align_corners=False)
        inside = functional.grid_sample(mask, grid, mode="nearest", align_corners=False)
        return image, inside

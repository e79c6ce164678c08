"""Building blocks of the networks."""

import torch
from torch import Tensor, nn


def activation() -> nn.Module:
    """LeakyReLU of slope 0.01, as in the ceVAE of Zimmerer's dissertation."""
    return nn.LeakyReLU(0.01)


def strided_down(channels_in: int, channels_out: int) -> nn.Sequential:
    """Halves the size: 4 by 4 convolution, stride 2, no norm."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1), activation())


def strided_up(channels_in: int, channels_out: int, *, is_last: bool) -> nn.Sequential:
    """Doubles the size: transposed counterpart of ``strided_down``; the last one is linear."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)]
    if not is_last:
        layers.append(activation())
    return nn.Sequential(*layers)


def double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two 3 by 3 convolutions with batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        activation(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        activation(),
    )


class Coordinates(nn.Module):
    """Appends row, column and slice position, each -1 to 1, as channels (CoordConv).

    Parameters
    ----------
    rows, columns : int
        Fixed size of the grid.
    """

    grid: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        y = torch.linspace(-1, 1, rows)[:, None].expand(rows, columns)
        x = torch.linspace(-1, 1, columns)[None, :].expand(rows, columns)
        self.register_buffer("grid", torch.stack([y, x])[None].contiguous(), persistent=False)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(batch, c, rows, columns) and (batch,) → (batch, c + 3, rows, columns)."""
        plane = self.grid.to(x.dtype).expand(x.shape[0], -1, -1, -1)
        height = position.to(x.dtype)[:, None, None, None].expand(-1, 1, x.shape[2], x.shape[3])
        return torch.cat([x, plane, height], dim=1)

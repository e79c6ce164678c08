"""What is done to normal slices so that a network learns to undo it. Every draw comes from a generator."""

import torch
from torch import Generator, Tensor
from torch.nn import functional


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform numbers of a seeded generator."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def mask_patches(
    x: Tensor, *, most: int, size: tuple[float, float], values: tuple[float, float], generator: Generator
) -> Tensor:
    """Up to ``most`` rectangles of random place, size and grey value in every slice (context encoding).

    Parameters
    ----------
    x : (batch, 1, rows, columns)
    most : int
        One to this many patches; each slice gets its own.
    size : tuple of float
        Edge lengths as a share of the slice's edge.
    values : tuple of float
        Range of the grey value.
    """
    batch, _, rows, columns = x.shape
    y = torch.arange(rows)[None, :, None]
    c = torch.arange(columns)[None, None, :]
    count = torch.randint(1, most + 1, (batch,), generator=generator)
    for i in range(most):
        height = uniform(*size, (batch, 1, 1), generator) * rows
        width = uniform(*size, (batch, 1, 1), generator) * columns
        top = uniform(0, 1, (batch, 1, 1), generator) * (rows - height)
        left = uniform(0, 1, (batch, 1, 1), generator) * (columns - width)
        inside = (y >= top) & (y < top + height) & (c >= left) & (c < left + width)
        inside &= (count > i)[:, None, None]
        grey = uniform(*values, (batch, 1, 1, 1), generator)
        x = torch.where(inside[:, None], grey, x)
    return x


def coarse_noise(
    x: Tensor,
    *,
    context: tuple[int, ...],
    cells: tuple[int, ...],
    sigma: float,
    generator: Generator,
) -> Tensor:
    """A smooth random field to be added to the slices of a context, coherent from slice to slice.

    A field that changed from slice to slice could be undone by looking at the neighbours, which a lesion
    does not allow. Half of the samples have the field everywhere, half in a few places.

    Parameters
    ----------
    x : (batch, context, rows, columns)
        Gives the shape; 0 is background and stays so.
    context : tuple of int
        Slice offset of each channel.
    cells : tuple of int
        Grid constants of the field in voxels; one is drawn for the whole batch.
    sigma : float
        Standard deviation of the field's nodes.

    Returns
    -------
    (batch, context, rows, columns)
    """
    cell = cells[int(torch.randint(len(cells), (1,), generator=generator))]
    field = sigma * _field(x.shape, context, cell, generator)
    gate = torch.sigmoid(6 * (_field(x.shape, context, 2 * cell, generator) - 0.5))
    is_sparse = torch.rand((x.shape[0], 1, 1, 1), generator=generator) < 0.5  # noqa: PLR2004 - half of them
    strength = uniform(1.0, 2.0, (x.shape[0], 1, 1, 1), generator)
    return torch.where(is_sparse, field * gate * strength, field) * (x > 0)


def _field(shape: torch.Size, context: tuple[int, ...], cell: int, generator: Generator) -> Tensor:
    """Gaussian nodes every ``cell`` voxels at a random phase, linear between them; one field a sample."""
    batch, channels, rows, columns = shape
    depth = (max(context) - min(context)) // cell + 3
    nodes = torch.randn((batch, depth, rows // cell + 3, columns // cell + 3), generator=generator)
    phase = torch.randint(cell, (3,), generator=generator)
    plane = functional.interpolate(nodes, scale_factor=float(cell), mode="bilinear", align_corners=False)
    top, left = int(phase[1]) + cell // 2, int(phase[2]) + cell // 2
    plane = plane[:, :, top : top + rows, left : left + columns]
    height = (torch.tensor(context) - min(context) + int(phase[0])) / cell
    lower = height.floor().long()
    share = (height - lower).reshape(1, channels, 1, 1)
    return plane[:, lower] * (1 - share) + plane[:, lower + 1] * share

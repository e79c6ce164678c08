"""Normal images in memory, from which training draws."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.making.passes import Batch, Shape

CHUNK = 64  # Images in one batch of a pass over everything.


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Raw images of one part of a split.

    Attributes
    ----------
    pixels : float32, (n, channels, rows, columns)
    mask : float32, (n, 1, rows, columns)
    position : float32, (n,)
    lesion : float32, (n, 1, rows, columns), or None
        1 where a finding is.
    """

    pixels: Tensor
    mask: Tensor
    position: Tensor
    lesion: Tensor | None = None

    @property
    def shape(self) -> Shape:
        """Of one image."""
        return Shape(*self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> Batch:
        """The images of an index."""
        return Batch(
            x=self.pixels[index],
            mask=self.mask[index],
            position=self.position[index],
            lesion=None if self.lesion is None else self.lesion[index],
        )

    def draw(self, size: int) -> Batch:
        """A random batch, with replacement, by torch's global generator."""
        return self.take(torch.randint(len(self), (size,)))

    def chunks(self) -> Iterator[Batch]:
        """Everything once, in order."""
        for start in range(0, len(self), CHUNK):
            yield self.take(torch.arange(start, min(start + CHUNK, len(self))))


def mixed(normals: Batch, marked: Batch) -> Batch:
    """Normal images, which show nothing, and images with their findings, as one batch."""
    if marked.lesion is None:
        raise ValueError("images without their findings cannot be learnt from as marked ones")
    return Batch(
        x=torch.cat([normals.x, marked.x]),
        mask=torch.cat([normals.mask, marked.mask]),
        position=torch.cat([normals.position, marked.position]),
        lesion=torch.cat([torch.zeros_like(normals.mask), marked.lesion]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyPool:
    """Held-apart normals, those a toy lesion was put into, and the same ones without.

    Attributes
    ----------
    changed, clean : Pool
        Not of the same length: a lesion does not reach every slice of its stack.
    lesion : bool, (n, 1, rows, columns)
    """

    changed: Pool
    clean: Pool
    lesion: Tensor

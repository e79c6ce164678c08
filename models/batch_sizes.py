"""Batch sizes at which what a network says of a sample depends on the sample alone, to the byte."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.providers import batch_shapes
from models.runner import Feeds, Outputs


class Device(Protocol):
    """What runs one batch at a time."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    @property
    def provider(self) -> str:
        """What runs it."""

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Batch sizes at which a sample's outputs are always the same bytes.

    Attributes
    ----------
    allowed : tuple of int
        Ascending; the last is the largest batch.
    is_shared : bool
        False: even at that one size place or neighbours matter, and a batch holds one study alone.
    """

    allowed: tuple[int, ...]
    is_shared: bool


def probe(device: Device, examples: Feeds) -> Sizes:
    """Ask a network at which batch sizes its outputs depend on the sample alone.

    Parameters
    ----------
    device : Device
    examples : Feeds
        A largest batch of samples that differ.

    Returns
    -------
    Sizes
        A kernel is chosen by shape, so what holds for the examples holds for every study.
    """
    batch = len(next(iter(examples.values())))
    expected = device.run(examples)
    order = np.random.default_rng(0).permutation(batch)
    for kept in (order % 2 == 0, order % 2 == 1):
        # Every sample at another place, every second one another than before.
        turned = {name: values[order] for name, values in examples.items()}
        for values in turned.values():
            values[~kept] *= np.float32(0.5)
        found = device.run(turned)
        if not all(_is_same(found[name][kept], values[order][kept]) for name, values in expected.items()):
            return Sizes(allowed=(batch,), is_shared=False)
    allowed = [
        size
        for size in batch_shapes(batch)[:-1]
        if all(
            _is_same(values, expected[name][:size])
            for name, values in device.run({name: part[:size] for name, part in examples.items()}).items()
        )
    ]
    return Sizes(allowed=(*allowed, batch), is_shared=True)


def _is_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.tobytes() == other.tobytes()

"""What a predictor asks of a network, wherever it runs: here, through the batcher, or on a server."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import NoNumberError

Feeds = Mapping[str, NDArray[np.float32]]
"""Every input of a network by name, samples along the first axis."""

Outputs = dict[str, NDArray[np.float32]]
"""Every output by name, samples along the first axis."""


class Runner(Protocol):
    """A network that answers."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    @property
    def provider(self) -> str:
        """What runs it: an execution provider of ONNX Runtime, or ``triton``."""

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch."""

    def run_batched(self, feeds: Feeds) -> Outputs:
        """Every output of any number of samples."""

    def run_each(self, parts: Iterable[Feeds]) -> Iterator[Outputs]:
        """Outputs of batches in their order; a few of them exist at a time, however many there are."""


def numbers_of(found: Outputs) -> Outputs:
    """What a network answered, every value of it a number.

    Places outside the mask and empty slices count too: a network that is sound there stays sound when the
    mask moves, and what is no number never gets as far as a picture, on which it would look calm.

    Raises
    ------
    NoNumberError
        If any value is not finite.
    """
    for values in found.values():
        if not np.isfinite(values).all():
            raise NoNumberError(NoNumberError.__doc__)
    return found

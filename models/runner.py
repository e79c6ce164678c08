"""What a predictor asks of a network, wherever it runs: here, through the batcher, or on a server."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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

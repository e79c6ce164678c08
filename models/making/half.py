"""Whether a model keeps its numbers in half precision, so that a GPU may use it."""

import torch

from models.making.head import Scoring
from models.making.passes import Batch
from models.runner import Outputs
from models.runtime import HALF_PARITY, difference


def agrees_in_half(scoring: Scoring, batch: Batch) -> bool:
    """Whether convolutions and products in fp16 change scores and maps by no more than ``HALF_PARITY``.

    What TensorRT does with its fp16 switch, shown on the machine that trains; the running side compares
    once more on its own GPU before it uses fp16.

    Parameters
    ----------
    scoring : Scoring
        In eval mode.
    batch : Batch
        Raw pictures like those that will come.
    """

    def outputs() -> Outputs:
        with torch.no_grad():
            found = scoring(batch.x, batch.mask, batch.position)
        return {name: values.float().numpy() for name, values in zip(scoring.outputs(), found, strict=True)}

    exact = outputs()
    try:
        with torch.autocast("cpu", torch.float16):
            rough = outputs()
    except RuntimeError:  # an operator of the method has no mixed types; it stays in float32
        return False
    return difference(exact, rough) <= HALF_PARITY

"""What flows between the parts while a method is trained: images in, a network's answer, both in one pass.

Every draw of a training step comes from torch's global generator, which the trainer seeds from the seed and
the number of the step. So a run that was stopped and resumed gives the same bytes as one that was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Shape(NamedTuple):
    """Size of an image or feature map without the batch."""

    channels: int
    rows: int
    columns: int

    @property
    def numel(self) -> int:
        """Numbers in one sample."""
        return self.channels * self.rows * self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Normal images as the network sees them.

    Attributes
    ----------
    x : (batch, channels, rows, columns)
        Normalised by the record's constants.
    mask : (batch, 1, rows, columns)
        1 where the image is assessed, 0 elsewhere.
    position : (batch,)
        Of a slice in its stack, -1 lowest to 1 highest; 0 for single images.
    lesion : (batch, 1, rows, columns) or None
        1 where somebody said that there is a finding; of batches of which anybody said so.
    """

    x: Tensor
    mask: Tensor
    position: Tensor
    lesion: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What an encoder says.

    Attributes
    ----------
    z : (batch, ...)
        What the decoder is given.
    mean, log_variance : Tensor, optional
        Of a Gaussian posterior; the log of sigma squared, everywhere.
    losses : mapping of str to (batch,)
        Losses that only the neck can know (mixture KL terms, commitment of a codebook), by name;
        ``divergence`` among them stands for the KL term where it is not that of a single Gaussian.
    indices : int64 (batch, rows, columns), optional
        Entries of a codebook.
    """

    z: Tensor
    mean: Tensor | None = None
    log_variance: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    indices: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A network's answer to a batch.

    Attributes
    ----------
    image : (batch, channels, rows, columns), optional
        Reconstruction, predicted noise, or logits of a segmentation.
    log_scale : (batch, channels, rows, columns), optional
        Log variance of the image's pixels, where the network predicts its own uncertainty.
    code : Code, optional
    features : (batch, n), optional
        Embedding, or a critic's features.
    logit : (batch,), optional
        A critic's judgement, high is real.
    """

    image: Tensor | None = None
    log_scale: Tensor | None = None
    code: Code | None = None
    features: Tensor | None = None
    logit: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One branch of one training step: what was given, what is wanted, what came out.

    Attributes
    ----------
    batch : Batch
        The clean images.
    given : (batch, channels, rows, columns)
        What the network saw: clean or corrupted.
    target : (batch, channels, rows, columns)
        What it should answer: the clean image, the added noise, or the map of what was changed.
    output : Output
    networks : nn.ModuleDict
        Every network of the method by its name in the record.
    step, steps : int
        Of the stage, for terms that grow or fade.
    """

    batch: Batch
    given: Tensor
    target: Tensor
    output: Output
    networks: nn.ModuleDict
    step: int
    steps: int


class Network(nn.Module):
    """A network of a method. ``run`` is what a branch calls; what it answers depends on its kind."""

    def run(self, x: Tensor, position: Tensor, *, sample: bool) -> Output:
        """Answer to a batch of images.

        Parameters
        ----------
        x : (batch, channels, rows, columns)
        position : (batch,)
        sample : bool
            Draw the code from its posterior (training) instead of taking its mean.
        """
        raise NotImplementedError


def network_of(networks: nn.ModuleDict, name: str) -> Network:
    """A network of a method by its name.

    Raises
    ------
    TypeError
        If what bears the name does not answer images.
    """
    found = networks[name]
    if not isinstance(found, Network):
        raise TypeError(f"{name} does not answer images")
    return found


def step_seed(seed: int, stage: int, step: int) -> int:
    """Seed of one training step."""
    return (seed * 1_000_003 + stage * 100_003 + step) % (2**63)


def seed_step(seed: int, stage: int, step: int) -> None:
    """Make every draw of the step that follows a function of seed, stage and step."""
    torch.manual_seed(step_seed(seed, stage, step))

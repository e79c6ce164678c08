"""Training loops: seeded draws, bf16 on the CPU, and the step that finds toy lesions best is kept."""

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from models.artefact import InputContract
from models.evaluation.metrics import average_precision
from models.making.brain.corrupters import coarse_noise, mask_patches
from models.making.brain.data import SlicePool, Toy
from models.making.brain.networks import Denoiser, VariationalAutoencoder
from models.making.brain.objectives import context_encoding_loss, denoising_loss
from models.making.brain.record import DenoisingMember, Training, VariationalMember
from models.predictor import context_slices, slice_position
from models.preprocess import Prepared

Report = Callable[[str], None]
SELECT_STRIDE = 3  # Every third slice of a toy volume is enough to choose a step.
SELECT_BATCH = 32
GRADIENT_NORM = 1e3  # Losses are sums over a slice, so ordinary gradients are of this size.


def train_cevae(
    member: VariationalMember,
    contract: InputContract,
    subjects: Sequence[Prepared],
    toys: Sequence[Toy],
    seed: int,
    report: Report,
) -> VariationalAutoencoder:
    """The trained ceVAE, chosen by toy lesions; in eval mode."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    rows, columns = contract.shape[1:]
    network = VariationalAutoencoder(size=(rows, columns), channels=member.channels, latent=member.latent)
    pool = SlicePool(subjects, context=(0,), seed=seed, refresh=member.train.refresh)

    def loss() -> Tensor:
        x, position = pool.draw(member.train.batch)
        corrupted = mask_patches(
            x,
            most=member.corrupt.most,
            size=member.corrupt.size,
            values=member.corrupt.values,
            generator=generator,
        )
        return context_encoding_loss(
            network, x, corrupted, position, factor=member.factor, generator=generator
        )

    def residual(x: Tensor, position: Tensor) -> Tensor:
        return x - network.decode(network.encode(x, position)[0], position)

    _fit(network, loss, member.train, lambda: _toy_precision(residual, toys, (0,)), report, "ceVAE")
    return network


def train_denoiser(
    member: DenoisingMember,
    contract: InputContract,
    subjects: Sequence[Prepared],
    toys: Sequence[Toy],
    seed: int,
    report: Report,
) -> Denoiser:
    """The trained denoiser, chosen by toy lesions; in eval mode."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    rows, columns = contract.shape[1:]
    network = Denoiser(size=(rows, columns), context=len(contract.context), channels=member.channels)
    pool = SlicePool(subjects, context=contract.context, seed=seed, refresh=member.train.refresh)
    middle = contract.context.index(0)

    def loss() -> Tensor:
        x, position = pool.draw(member.train.batch)
        noise = coarse_noise(
            x, context=contract.context, cells=member.cells, sigma=member.sigma, generator=generator
        )
        return denoising_loss(
            network, x.contiguous(memory_format=torch.channels_last), noise, position, middle
        )

    _fit(
        network,
        loss,
        member.train,
        lambda: _toy_precision(network, toys, contract.context),
        report,
        "denoiser",
    )
    return network


def _fit(
    network: nn.Module,
    loss: Callable[[], Tensor],
    plan: Training,
    precision: Callable[[], float],
    report: Report,
    name: str,
) -> None:
    """Adam with cosine decay; at the end the network holds the weights of its best toy check."""
    for parameter in network.parameters():
        if parameter.ndim == 4:  # noqa: PLR2004 - convolution weights
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps, eta_min=plan.rate / 100)
    best, kept = -1.0, copy.deepcopy(network.state_dict())
    total = 0.0
    for step in range(1, plan.steps + 1):
        network.train()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        total += float(value.detach())
        if step % plan.select_every == 0 or step == plan.steps:
            network.eval()
            found = precision()
            report(f"{name} step {step}: loss {total / plan.select_every:.1f}, toy precision {found:.4f}")
            total = 0.0
            if found > best:
                best, kept = found, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    network.eval()


def _toy_precision(
    residual: Callable[[Tensor, Tensor], Tensor], toys: Sequence[Toy], context: tuple[int, ...]
) -> float:
    """Average precision of the absolute residual over the brain voxels of all toy volumes, pooled."""
    scores: list[NDArray[np.float32]] = []
    truth: list[NDArray[np.bool_]] = []
    for toy in toys:
        index = np.flatnonzero(toy.brain.any(axis=(1, 2)))[::SELECT_STRIDE]
        for part in _chunks(index, SELECT_BATCH):
            x = torch.from_numpy(context_slices(toy.voxels, part, context))
            position = torch.from_numpy(slice_position(part, len(toy.voxels)))
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                found = residual(x.contiguous(memory_format=torch.channels_last), position)
            inside = toy.brain[part]
            scores.append(found.float().abs()[:, 0].numpy()[inside])
            truth.append(toy.lesion[part][inside])
    return average_precision(np.concatenate(truth), np.concatenate(scores))


def _chunks(index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(index), size):
        yield index[start : start + size]

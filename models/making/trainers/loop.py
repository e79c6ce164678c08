"""What all trainers share: seeded steps, the pool of normals, the choice of the best step by toy lesions."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule
from pydantic import Field
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset

from models.errors import TrainingError
from models.making.branch import Branch
from models.making.passes import Batch, seed_step
from models.making.section import Count, NotNegative, Positive, Section

FINAL_RATE = 0.01  # Share of the first learning rate at the end of a cosine schedule.


class Optimiser(Section):
    """Optimiser and learning rate.

    Attributes
    ----------
    schedule : str
        ``constant``, or ``cosine`` down to a hundredth.
    clip : float
        Largest norm of the gradient; 0: not clipped. Of the size of the loss, which may be a sum.
    """

    type: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    rate: Positive = 1e-3
    betas: tuple[NotNegative, NotNegative] = (0.9, 0.999)
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    clip: NotNegative = 0.0

    def build(self, parameters: Iterator[nn.Parameter], steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """The optimiser of parameters and its schedule over so many steps."""
        found: torch.optim.Optimizer
        match self.type:
            case "adam":
                found = torch.optim.Adam(
                    parameters, lr=self.rate, betas=self.betas, weight_decay=self.weight_decay
                )
            case "adamw":
                found = torch.optim.AdamW(
                    parameters, lr=self.rate, betas=self.betas, weight_decay=self.weight_decay
                )
            case "rmsprop":
                found = torch.optim.RMSprop(parameters, lr=self.rate, weight_decay=self.weight_decay)
            case "sgd":
                found = torch.optim.SGD(
                    parameters, lr=self.rate, momentum=self.betas[0], weight_decay=self.weight_decay
                )

        def rate_at(step: int) -> float:
            if self.schedule == "constant":
                return 1.0
            done = torch.tensor(min(step / steps, 1.0) * torch.pi)
            return float(FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + torch.cos(done)))

        return found, LambdaLR(found, rate_at)


class Stage(Section):
    """What every stage of a training states.

    Attributes
    ----------
    networks : tuple of str
        Whose weights move.
    branches : tuple of Branch
        Their losses are added.
    marked : float
        Share of each batch that are images with a known finding; the others are normals.
    select_every : int
        Steps between two checks on toy lesions; the best step is kept. 0: the last step is kept.
    precision : str
        ``bf16``: convolutions in bfloat16 with float32 weights, half the time on a CPU.
    """

    networks: Annotated[tuple[str, ...], Field(min_length=1)]
    branches: Annotated[tuple[Branch, ...], Field(min_length=1)]
    steps: Count
    batch: Count = 32
    marked: Annotated[float, Field(ge=0, le=1)] = 0.0
    optimiser: Optimiser = Optimiser()
    select_every: Annotated[int, Field(ge=0)] = 0
    precision: Literal["fp32", "bf16"] = "bf16"

    def names(self) -> frozenset[str]:
        """Every network the stage speaks of."""
        return frozenset(self.networks).union(*(branch.names() for branch in self.branches))

    def moving(self) -> frozenset[str]:
        """Networks that learn; the others are frozen, with their batch norms and codebooks."""
        return frozenset(self.networks)


Draw = Callable[[int], Batch]
"""Draws an augmented, normalised batch of so many normals."""

Criterion = Callable[[], float]
"""How well the method in its present state finds toy lesions, higher is better."""


class Steps(IterableDataset[int]):
    """Counts for ever; the loop knows when it is done."""

    def __iter__(self) -> Iterator[int]:
        step = 0
        while True:
            yield step
            step += 1


class Loop(LightningModule):
    """One stage of a training.

    Parameters
    ----------
    plan : Stage
    networks : nn.ModuleDict
        All networks of the method.
    draw : callable
    criterion : callable
    seed, number : int
        Of the run, and of the stage within it.
    """

    done: Tensor

    def __init__(
        self,
        plan: Stage,
        networks: nn.ModuleDict,
        draw: Draw,
        criterion: Criterion,
        *,
        seed: int,
        number: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.plan = plan
        # Channels last is another third faster on a CPU, and what tensor cores want.
        for parameter in networks.parameters():
            if parameter.ndim == 4:  # noqa: PLR2004 - convolution weights
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.networks = networks
        self._draw = draw
        self._criterion = criterion
        self._seed, self._number = seed, number
        self._best = -1.0
        self._kept: Mapping[str, Tensor] | None = None
        self.losses: list[float] = []
        self.register_buffer("done", torch.tensor(0))

    def advance(self, step: int) -> Tensor:
        """Do one step and return the loss that is shown."""
        raise NotImplementedError

    def training_step(self, _count: int, _index: int) -> None:
        """One seeded step, and the check on toy lesions where one is due."""
        step = int(self.done)
        seed_step(self._seed, self._number, step)
        self.train()
        for name, network in self.networks.items():
            if name not in self.plan.moving():
                network.eval()
        loss = self.advance(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"stage {self._number + 1}, step {step + 1}: the loss is {value}; take a smaller rate or clip"
            )
        self.losses.append(value)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=self.plan.batch)
        self.done += 1
        every = self.plan.select_every
        if every and ((step + 1) % every == 0 or step + 1 == self.plan.steps):
            self._select()
        if step + 1 >= self.plan.steps:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Put back the weights of the best check."""
        if self._kept is not None:
            self.networks.load_state_dict(self._kept)
        self.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs to choose as this one would."""
        checkpoint["best"], checkpoint["kept"], checkpoint["losses"] = self._best, self._kept, self.losses

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where a killed run was."""
        self._best, self._kept = checkpoint["best"], checkpoint["kept"]
        self.losses = list(checkpoint["losses"])

    def draw(self) -> Batch:
        """A batch of normals."""
        batch = self._draw(self.plan.batch)
        x = batch.x.contiguous(memory_format=torch.channels_last)
        return replace(batch, x=x)

    def descend(self, loss: Tensor, optimiser: Any, clip: float, parameters: Iterator[nn.Parameter]) -> None:
        """One step of one optimiser down a loss."""
        optimiser.zero_grad()
        self.manual_backward(loss)
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()

    def parameters_of(self, names: tuple[str, ...]) -> Iterator[nn.Parameter]:
        """Weights of networks by their names, each once."""
        seen: set[int] = set()
        for name in names:
            for parameter in self.networks[name].parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def _select(self) -> None:
        self.eval()
        found = self._criterion()
        self.log("toy", found, prog_bar=True, batch_size=1)
        if found > self._best:
            self._best, self._kept = found, copy.deepcopy(self.networks.state_dict())

"""One optimiser, one loss: most methods."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.making.trainers.loop import Criterion, Draw, Loop, Stage


class SingleTrainer(Stage):
    """The branches' losses are added and go down together."""

    trainer: Literal["single"] = "single"

    def build(
        self, networks: nn.ModuleDict, draw: Draw, criterion: Criterion, *, seed: int, number: int
    ) -> Loop:
        """The loop of this stage."""
        return _Single(self, networks, draw, criterion, seed=seed, number=number)


class _Single(Loop):
    def configure_optimizers(self) -> Any:
        """One optimiser with its schedule."""
        plan = self.plan
        optimiser, schedule = plan.optimiser.build(self.parameters_of(plan.networks), plan.steps)
        return [optimiser], [schedule]

    def advance(self, step: int) -> Tensor:
        """One step down the sum of the branches."""
        batch = self.draw()
        parts = [branch.loss(batch, self.networks, step, self.plan.steps) for branch in self.plan.branches]
        loss = torch.stack(parts).sum()
        self.descend(
            loss, self.optimizers(), self.plan.optimiser.clip, self.parameters_of(self.plan.networks)
        )
        self.lr_schedulers().step()  # type: ignore[union-attr]  # one schedule, see above
        return loss

"""Adversarial training at growing size (Karras et al. 2018, section 2; 001, section 2.3)."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from models.making.networks.progressive import Growing
from models.making.passes import Batch
from models.making.section import Positive, Share
from models.making.trainers.adversarial import AdversarialLoop, AdversarialTrainer
from models.making.trainers.loop import Criterion, Draw, Loop


class ProgressiveTrainer(AdversarialTrainer):
    """Each level fades in over its first steps, is trained, and the next is put on it.

    Attributes
    ----------
    shares : tuple of float
        Of the stage's steps, one for each level, from the coarsest; together 1.
    fade : float
        Share of a level's steps over which it fades in. The coarsest is there from the start.
    """

    trainer: Literal["progressive"] = "progressive"  # type: ignore[assignment]  # tells it from its parent
    shares: Annotated[tuple[Positive, ...], Field(min_length=1)]
    fade: Share = 0.4

    @model_validator(mode="after")
    def _shares_are_whole(self) -> "ProgressiveTrainer":
        if abs(sum(self.shares) - 1) > 1e-6:  # noqa: PLR2004 - rounding of decimals
            raise ValueError(f"shares: add up to {sum(self.shares):.3f}, not 1")
        return self

    def build(
        self, networks: nn.ModuleDict, draw: Draw, criterion: Criterion, *, seed: int, number: int
    ) -> Loop:
        """The loop of this stage.

        Raises
        ------
        ValueError
            If a network has not as many levels as there are shares.
        """
        for name in self.names():
            network = networks[name]
            if not isinstance(network, Growing) or network.levels != len(self.shares):
                raise ValueError(f"shares: {name} does not grow over {len(self.shares)} levels")
        return ProgressiveLoop(self, networks, draw, criterion, seed=seed, number=number)

    def level_at(self, step: int) -> tuple[int, float]:
        """Level and alpha of a step."""
        start = 0.0
        for level, share in enumerate(self.shares):
            length = share * self.steps
            if step < round(start + length) or level == len(self.shares) - 1:
                faded = (step + 1 - start) / max(self.fade * length, 1.0)
                return level, 1.0 if level == 0 else min(1.0, max(0.0, faded))
            start += length
        raise AssertionError("shares are never empty")


class ProgressiveLoop(AdversarialLoop):
    """One stage of a growing training. The choice by toy lesions begins at full size."""

    plan: ProgressiveTrainer

    def advance(self, step: int) -> Tensor:
        """Grow, start the optimisers anew at a new level, and do the step."""
        level, alpha = self.plan.level_at(step)
        if step and level != self.plan.level_at(step - 1)[0]:
            self._forget()
        self._grow(level, alpha)
        return super().advance(step)

    def draw(self) -> Batch:
        """A batch of normals in the present level's size."""
        batch = super().draw()
        factor = 2 ** (len(self.plan.shares) - 1 - self.plan.level_at(int(self.done))[0])
        if factor == 1:
            return batch
        return Batch(
            x=functional.avg_pool2d(batch.x, factor),
            mask=functional.max_pool2d(batch.mask, factor),
            position=batch.position,
        )

    def on_train_end(self) -> None:
        """Full size, and the weights of the best check."""
        self._grow(len(self.plan.shares) - 1, 1.0)
        super().on_train_end()

    def _select(self) -> None:
        level, alpha = self.plan.level_at(int(self.done) - 1)
        if level == len(self.plan.shares) - 1 and alpha == 1:
            super()._select()

    def _grow(self, level: int, alpha: float) -> None:
        for name in self.plan.names():
            network = self.networks[name]
            if isinstance(network, Growing):
                network.grow(level, alpha)

    def _forget(self) -> None:
        """Moments of the coarser level say nothing of the finer one."""
        found: Any = self.optimizers()
        for optimiser in found:
            optimiser.optimizer.state.clear()

"""Networks against critics: n steps of the critics, one of the networks, each with its own optimiser."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.errors import TrainingError
from models.making.branch import Branch
from models.making.objectives.adversarial import AnyRequest, Cast, Fooling, Judging, Signal, Signals
from models.making.section import Count, Positive, Section
from models.making.trainers.loop import Criterion, Draw, Loop, Optimiser, Stage


class Collapse(Section):
    """When a generator that gives ever the same image is stopped.

    Attributes
    ----------
    of : str
        The signal that is watched.
    least : float
        Mean pairwise L1 distance of the fakes of a batch as a share of that of the normals.
    after, every : int
        First step at which it is looked at, as a generator starts with one grey image, and steps between.
    """

    of: Signal = "fake"
    least: Positive = 0.5
    after: Count
    every: Count = 50


class AdversarialTrainer(Stage):
    """One stage of networks against critics; without critics, of a cast alone (f-AnoGAN's encoder).

    Networks that are named in neither ``networks`` nor ``critics`` are frozen, batch norm included.

    Attributes
    ----------
    cast : Cast
        Which network encodes and which generates.
    terms : tuple
        What the networks go down.
    critics : tuple of str
        Whose weights move in the critics' steps. A critic that encodes is among the networks as well.
    judgings : tuple of Judging
        What the critics go down.
    critic_steps : int
        For each step of the networks. 0: one, after it and on the same signals, which are computed once.
    collapse : Collapse, optional
        Not watched, unless given.
    """

    trainer: Literal["adversarial"] = "adversarial"
    branches: tuple[Branch, ...] = ()
    cast: Cast
    terms: Annotated[tuple[AnyRequest, ...], Field(min_length=1)]
    critics: tuple[str, ...] = ()
    judgings: tuple[Judging, ...] = ()
    critic_steps: Annotated[int, Field(ge=0)] = 1
    critic_optimiser: Optimiser = Optimiser()
    collapse: Collapse | None = None

    @model_validator(mode="after")
    def _critics_have_contests(self) -> "AdversarialTrainer":
        if bool(self.critics) != bool(self.judgings):
            raise ValueError("critics and judgings are given together or not at all")
        return self

    def moving(self) -> frozenset[str]:
        """Networks that learn."""
        return frozenset((*self.networks, *self.critics))

    def names(self) -> frozenset[str]:
        """Every network the stage speaks of."""
        terms = (term.names() for term in self.terms)
        return self.moving().union(self.cast.names(), (judging.critic for judging in self.judgings), *terms)

    def build(
        self, networks: nn.ModuleDict, draw: Draw, criterion: Criterion, *, seed: int, number: int
    ) -> Loop:
        """The loop of this stage."""
        return AdversarialLoop(self, networks, draw, criterion, seed=seed, number=number)


class AdversarialLoop(Loop):
    """One stage of an adversarial training.

    The loss that is shown is that of the terms that speak of no critic's verdict, as the verdict's own
    value says little: the better the critic, the worse it looks. Where there are none it is the critics'.

    Raises
    ------
    TrainingError
        If the generator has collapsed.
    """

    plan: AdversarialTrainer

    def configure_optimizers(self) -> Any:
        """An optimiser for the networks and one for the critics, each with its schedule."""
        plan = self.plan
        pairs = [plan.optimiser.build(self.parameters_of(plan.networks), plan.steps)]
        if plan.critics:
            steps = plan.steps * max(1, plan.critic_steps)
            pairs.append(plan.critic_optimiser.build(self.parameters_of(plan.critics), steps))
        return [optimiser for optimiser, _ in pairs], [schedule for _, schedule in pairs]

    def advance(self, step: int) -> Tensor:
        """The critics' steps and one of the networks."""
        plan = self.plan
        verdict = torch.zeros(())
        for _ in range(plan.critic_steps if plan.critics else 0):
            verdict = self._judge(self._signals(step, detached=True))
        signals = self._signals(step, detached=False)
        self._move(plan.networks)
        values = [term.weight * term.compute(signals) for term in plan.terms]
        self._descend(0, torch.stack(values).sum(), plan.optimiser, plan.networks)
        if plan.critics and not plan.critic_steps:
            verdict = self._judge(signals.for_critics())
        self._watch(signals, step)
        shown = [v for term, v in zip(plan.terms, values, strict=True) if not isinstance(term, Fooling)]
        return torch.stack(shown).sum() if shown else verdict

    def _signals(self, step: int, *, detached: bool) -> Signals:
        return Signals(
            cast=self.plan.cast,
            networks=self.networks,
            batch=self.draw(),
            step=step,
            steps=self.plan.steps,
            detached=detached,
        )

    def _judge(self, signals: Signals) -> Tensor:
        plan = self.plan
        self._move(plan.critics)
        loss = torch.stack([judging.compute(signals) for judging in plan.judgings]).sum()
        self._descend(1, loss, plan.critic_optimiser, plan.critics)
        return loss

    def _move(self, names: tuple[str, ...]) -> None:
        """Only these learn; gradients still run through the others."""
        for network in self.networks.values():
            network.requires_grad_(requires_grad=False)
        for name in names:
            self.networks[name].requires_grad_(requires_grad=True)

    def _descend(self, number: int, loss: Tensor, how: Optimiser, names: tuple[str, ...]) -> None:
        optimisers, schedules = self.optimizers(), self.lr_schedulers()
        listed = optimisers if isinstance(optimisers, list) else [optimisers]
        self.descend(loss, listed[number], how.clip, self.parameters_of(names))
        (schedules if isinstance(schedules, list) else [schedules])[number].step()  # type: ignore[union-attr]  # steps, not metrics

    @torch.no_grad()
    def _watch(self, signals: Signals, step: int) -> None:
        watch = self.plan.collapse
        if watch is None or step + 1 < watch.after or (step + 1 - watch.after) % watch.every:
            return
        found = diversity(signals[watch.of]) / diversity(signals["x"])
        self.log("diversity", found, batch_size=1)
        if found < watch.least:
            raise TrainingError(
                f"the generator collapsed: at step {step + 1} its images differ {float(found):.2f} times as "
                f"much as the normals do, less than {watch.least}; give more normals, or a smaller rate"
            )


def diversity(images: Tensor) -> Tensor:
    """Mean L1 distance between the images of a batch; scalar."""
    flat = images.detach().float().flatten(1)
    return torch.pdist(flat, p=1).mean()

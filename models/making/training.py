"""A record and a pool of normals → trained networks and the head that is exported."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from models.errors import TrainingError
from models.evaluation.metrics import auroc, average_precision
from models.making.export import export_onnx
from models.making.head import INPUTS, Head, Scoring
from models.making.networks.attention import fold_spectral
from models.making.passes import Batch, Shape, seed_step
from models.making.pool import Pool, ToyPool, mixed
from models.making.record import MethodRecord
from models.making.trainers.loop import Loop, Steps

LAST = "last.ckpt"
CHECKPOINT_EVERY = timedelta(seconds=60)
Report = Callable[[str, int, int], None]
"""Told stage, step and steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a training is kept and told of.

    Attributes
    ----------
    folder : Path, optional
        For checkpoints and TensorBoard. A run that was killed goes on from its last checkpoint and ends with
        the same bytes. Nothing is kept unless given.
    report : callable, optional
        Told of every step.
    checkpoint_steps : int, optional
        Steps between two checkpoints; one a minute unless given.
    """

    folder: Path | None = None
    report: Report | None = None
    checkpoint_steps: int | None = None

    def part(self, name: str) -> "Run":
        """The run of one member of an ensemble."""
        told = self.report

        def told_of_member(stage: str, step: int, steps: int) -> None:
            if told is not None:
                told(f"{name}, {stage}", step, steps)

        return Run(
            folder=None if self.folder is None else self.folder / name,
            report=told and told_of_member,
            checkpoint_steps=self.checkpoint_steps,
        )


NOT_KEPT = Run()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training leaves behind: networks by name, the head in eval mode, each stage's losses."""

    networks: nn.ModuleDict
    head: Head
    losses: tuple[tuple[float, ...], ...]


def build_networks(record: MethodRecord, shape: Shape, seed: int) -> nn.ModuleDict:
    """Untrained networks; the same seed gives the same weights.

    Raises
    ------
    ValueError
        If the shape does not fit a network.
    """
    found = nn.ModuleDict()
    for number, (name, plan) in enumerate(record.networks.items()):
        seed_step(seed, -1 - number, 0)
        found[name] = plan.build(shape)
    return found


def train(
    record: MethodRecord,
    pool: Pool,
    toys: ToyPool | None,
    *,
    seed: int,
    marked: Pool | None = None,
    run: Run = NOT_KEPT,
) -> Trained:
    """Train every stage of a record, then set the head's constants on the same normals.

    Parameters
    ----------
    pool : Pool
        Training normals, raw.
    toys : ToyPool, optional
        For stages that choose their best step.
    marked : Pool, optional
        Images with known findings, for stages that ask for some.
    run : Run

    Raises
    ------
    TrainingError
        If a stage asks for images with findings and there are none.
    """
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    networks = build_networks(record, record.input.seen(pool.shape), seed)
    head = Head(record, networks, pool.shape)
    losses = []
    for number, plan in enumerate(record.stages):
        if plan.marked and marked is None:
            raise TrainingError(
                f"{record.id}: stage {number + 1} learns from marked findings, and split train has none"
            )

        def draw(size: int, share: float = plan.marked) -> Batch:
            findings = round(share * size)
            if findings and marked is not None:  # as they are: a finding must stay where it was marked
                batch = mixed(pool.draw(size - findings), marked.draw(findings))
            else:
                batch = record.augment.apply(pool.draw(size))
            return replace(batch, x=record.input.normalise(batch.x))

        def criterion() -> float:
            return toy_criterion(head, toys) if toys is not None else 0.0

        loop = plan.build(networks, draw, criterion, seed=seed, number=number)
        _fit(loop, run, number)
        losses.append(tuple(loop.losses))
    fold_spectral(networks)
    head.fit(pool.chunks)
    for parameter in networks.parameters():
        parameter.requires_grad = False
    return Trained(networks=networks, head=head.eval(), losses=tuple(losses))


def _fit(loop: Loop, run: Run, number: int) -> None:
    """Run one stage, from its last checkpoint where there is one."""
    folder = None if run.folder is None else run.folder / f"stage-{number}"
    last = None if folder is None else folder / LAST
    if last is not None and last.exists() and _is_done(loop, last):
        return
    callbacks: list[Callback] = []
    if folder is not None:
        callbacks.append(
            ModelCheckpoint(
                folder,
                save_last=True,
                save_top_k=0,
                train_time_interval=None if run.checkpoint_steps else CHECKPOINT_EVERY,
                every_n_train_steps=run.checkpoint_steps,
            )
        )
    if run.report is not None:
        callbacks.append(_Telling(run.report, number, loop.plan.steps))
    with warnings.catch_warnings():
        # Lightning advises on loaders and loggers that a counter of steps and a folder of runs do not need.
        warnings.filterwarnings("ignore", module="lightning")
        trainer = Trainer(
            # Pools and heads stay in main memory; a GPU needs them moved, which nobody has run yet.
            accelerator="cpu",
            devices=1,
            precision="bf16-mixed" if loop.plan.precision == "bf16" else "32-true",
            max_epochs=-1,
            max_steps=-1,
            callbacks=callbacks,
            logger=False
            if run.folder is None
            else TensorBoardLogger(run.folder, "tensorboard", version=number),
            enable_checkpointing=folder is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=run.folder,
        )
        trainer.fit(
            loop,
            DataLoader(Steps(), batch_size=None),
            ckpt_path=last if last is not None and last.exists() else None,
            weights_only=True,
        )
        if last is not None:
            trainer.save_checkpoint(last)


def _is_done(loop: Loop, last: Path) -> bool:
    """Whether a checkpoint is that of the stage's end; the loop then has its weights."""
    found = torch.load(last, weights_only=True)
    if int(found["state_dict"]["done"]) < loop.plan.steps:
        return False
    loop.load_state_dict(found["state_dict"])
    loop.on_load_checkpoint(found)
    loop.on_train_end()
    return True


class _Telling(Callback):
    def __init__(self, report: Report, number: int, steps: int) -> None:
        self._report, self._number, self._steps = report, number, steps

    def on_train_batch_end(self, _trainer: Trainer, loop: LightningModule, *_: Any) -> None:
        """Tell of a step."""
        if isinstance(loop, Loop):
            self._report(f"stage {self._number + 1}", int(loop.done), self._steps)


@torch.no_grad()
def toy_criterion(head: Head, toys: ToyPool) -> float:
    """Average precision of the pixels of toy lesions; without a map, AUROC of their images.

    A choice by toy lesions is never one by real ones (Zimmerer's dissertation, section 3.1.4 shows why).
    """
    scores, images = [], []
    has_map = "pixel_score" in head.outputs()
    for batch in toys.changed.chunks():
        found = head(batch.x, batch.mask, batch.position)
        images.append(found[0])
        if has_map:
            scores.append(found[1][batch.mask > 0])
    if has_map:
        truth = toys.lesion[toys.changed.mask > 0]
        return average_precision(truth.numpy(), torch.cat(scores).float().numpy())
    images += [head(batch.x, batch.mask, batch.position)[0] for batch in toys.clean.chunks()]
    return auroc(
        np.arange(len(toys.changed) + len(toys.clean)) < len(toys.changed), torch.cat(images).float().numpy()
    )


def export_head(head: Scoring, path: Path) -> None:
    """Write the head as one ONNX graph."""
    # The tracer takes sizes that are equal for the same size, so the batch must not be as long as a side.
    batch = next(n for n in range(2, 10) if n not in head.shape)
    example = dict(
        zip(
            INPUTS,
            (
                torch.zeros(batch, *head.shape),
                torch.ones(batch, 1, *head.shape[1:]),
                torch.zeros(batch),
            ),
            strict=True,
        )
    )
    export_onnx(head, example, head.outputs(), path)

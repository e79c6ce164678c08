"""Restoration in five unrolled steps against the 500 small steps of its source, same network, same lesions.

Trains the record's variational autoencoder on a data folder's normals, puts toy lesions into held-apart
normals, and prints average precision and time of both, each in ONNX Runtime on one thread:
``python -m tests.benchmarks.restoration DATA [--steps 400] [--most 64]``.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.evaluation.metrics import average_precision
from models.images.collection import read_collection
from models.images.description import describe
from models.making.export import export_onnx
from models.making.material import TOY_SEED, gather
from models.making.pool import Pool
from models.making.record import read_method
from models.making.scorers.restoration import Restoration, RestorationStep
from models.making.training import export_head, train
from models.making.workshop import shortened
from models.runtime import Session

RECORD = "v7-restoration"
SOURCE = Restoration(network="vae", steps=500, rate=1e-3, normalised=False, total_variation=0.5)


class _Step(nn.Module):
    """One step of the source's restoration as a graph; the host repeats it."""

    def __init__(self, step: RestorationStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, now: Tensor, came: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor]:
        return (self.step(now, came, mask, position)[0],)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--most", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    record = read_method(RECORD)
    contract = record.input.contract(describe(given.data).contract)
    material = gather(read_collection(given.data, contract), seed=TOY_SEED)
    trained = train(shortened(record, given.steps), material.train, material.toys, seed=1)
    pool: Pool = material.toys.changed
    n = min(given.most, len(pool))
    feeds = {
        "x": pool.pixels[:n].numpy(),
        "mask": pool.mask[:n].numpy(),
        "position": pool.position[:n].numpy(),
    }
    truth = material.toys.lesion[:n][pool.mask[:n] > 0].numpy()
    inside = feeds["mask"] > 0
    with tempfile.TemporaryDirectory() as place:
        export_head(trained.head, Path(place) / "few.onnx")
        few = Session(Path(place) / "few.onnx", providers=("CPUExecutionProvider",))
        begun = time.perf_counter()
        quick = few.run_batched(feeds)["pixel_score"]
        took_few = time.perf_counter() - begun
        network = trained.networks["vae"]
        step = _Step(RestorationStep(SOURCE, network)).eval()  # type: ignore[arg-type]  # it answers images
        example = {
            "now": torch.zeros(2, *trained.head.shape),
            "came": torch.zeros(2, *trained.head.shape),
            "mask": torch.ones(2, 1, *trained.head.shape[1:]),
            "position": torch.zeros(2),
        }
        export_onnx(step, example, ("next",), Path(place) / "step.onnx")
        one = Session(Path(place) / "step.onnx", providers=("CPUExecutionProvider",))
        begun = time.perf_counter()
        now = feeds["x"]
        for _ in range(SOURCE.steps):
            now = one.run_batched(
                {"now": now, "came": feeds["x"], "mask": feeds["mask"], "position": feeds["position"]}
            )["next"]
        took_many = time.perf_counter() - begun
    slow = np.abs(feeds["x"] - now).mean(axis=1, keepdims=True)
    plain = trained.head.scorer.step.network.run(pool.pixels[:n], pool.position[:n], sample=False).image
    residual = (pool.pixels[:n] - plain).abs().mean(1, keepdim=True).detach().numpy()
    print(f"{RECORD} on {given.data.name}, {n} toy lesions")
    print(f"reconstruction                AP {average_precision(truth, residual[inside]):.3f}")
    print(
        f"500 steps of 1e-3             AP {average_precision(truth, slow[inside]):.3f}   {took_many:7.2f} s"
    )
    found = average_precision(truth, quick[inside])
    print(f"5 steps, normalised length    AP {found:.3f}   {took_few:7.2f} s")
    print(f"the five take 1/{took_many / took_few:.0f} of the time")


if __name__ == "__main__":
    main()

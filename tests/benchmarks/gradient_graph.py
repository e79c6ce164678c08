"""The exported KL-gradient graph in ONNX Runtime against eager torch, the same threads, interleaved.

Prints medians and their ratio: ``python -m tests.benchmarks.gradient_graph [--threads 1] [--rounds 15]``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from models.making.head import Head
from models.making.passes import Shape
from models.making.record import read_method
from models.making.training import build_networks, export_head
from models.runtime import Session

BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", default="v2-vae-conv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    record = read_method(given.record)
    shape = Shape(1, *(record.input.size or (64, 64)))
    head = Head(record, build_networks(record, shape, seed=1), shape).eval()
    for parameter in head.parameters():
        parameter.requires_grad = False
    x = torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(1))
    mask, position = torch.ones(BATCH, 1, *shape[1:]), torch.zeros(BATCH)
    feeds = {"x": x.numpy(), "mask": mask.numpy(), "position": position.numpy()}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.onnx"
        export_head(head, path)
        session = Session(path, providers=("CPUExecutionProvider",), threads=given.threads)
        eager, graph = [], []
        for _ in range(given.rounds + 2):
            begun = time.perf_counter()
            expected = head(x, mask, position)
            between = time.perf_counter()
            found = session.run(feeds)
            eager.append(between - begun)
            graph.append(time.perf_counter() - between)
        without_torch = subprocess.run(
            [sys.executable, "-c", _ALONE, str(path)], check=True, capture_output=True, text=True
        ).stdout.strip()
    wanted = expected[1].detach().numpy()
    wrong = np.abs(found["pixel_score"] - wanted) / np.abs(wanted).max()
    eager, graph = eager[2:], graph[2:]  # The first rounds warm both up.
    print(f"{record.id}, batch {BATCH}, {shape.rows} x {shape.columns}, {given.threads} thread(s)")
    print(f"torch eager    {1e3 * median(eager):8.1f} ms")
    print(f"ONNX Runtime   {1e3 * median(graph):8.1f} ms   {median(eager) / median(graph):.2f} x")
    print(f"99.9 % quantile of the relative difference of the map: {np.quantile(wrong, 0.999):.1e}")
    print(f"torch imported where the graph runs: {without_torch}")


_ALONE = """
import sys
from pathlib import Path
from models.runtime import Session
Session(Path(sys.argv[1]), providers=("CPUExecutionProvider",))
print("torch" in sys.modules)
"""

if __name__ == "__main__":
    main()

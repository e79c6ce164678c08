"""The network in ONNX Runtime: best provider present, fixed threads, same input same bytes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# From 1.31 on, ONNX Runtime reports its use to its maker unless told not to before it is loaded. A machine
# in a hospital tells nobody what it does.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.errors import ArtefactError

# What ONNX Runtime raises for a file it cannot use; the classes have no parent of their own.
REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)
BATCH = 32  # Samples in one run of a network, unless its contract says otherwise.
PREFERENCE = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def choose_providers(wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of ``wanted`` that this machine has, TensorRT before CUDA before CPU; CPU always last."""
    available = set(onnxruntime.get_available_providers())
    chosen = [name for name in PREFERENCE if name in wanted and name in available]
    if PREFERENCE[-1] not in chosen:
        chosen.append(PREFERENCE[-1])
    return tuple(chosen)


class Session:
    """One loaded network.

    Parameters
    ----------
    path : Path
        ``model.onnx``.
    providers : sequence of str
        Execution providers that may be used.
    threads : int
        Of one run; results are repeated exactly for the same number.

    Raises
    ------
    ArtefactError
        If ONNX Runtime does not accept the file.
    """

    def __init__(self, path: Path, *, providers: Sequence[str] = PREFERENCE, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # Higher levels fuse convolution and activation, which moves isolated pixels of a gradient map.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        # Bounded memory: without this the arena keeps the largest batch for good.
        options.enable_cpu_mem_arena = False
        self.providers = choose_providers(providers)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(self.providers))
        except REFUSALS as error:
            raise ArtefactError(path, "is not a network that ONNX Runtime can load; restore it") from error
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output of one batch by name."""
        return dict(zip(self.outputs, self._session.run(None, dict(feeds)), strict=True))

    def run_batched(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output of any number of samples, at most ``BATCH`` in one run."""
        n = len(next(iter(feeds.values())))
        parts = [
            self.run({name: values[start : start + BATCH] for name, values in feeds.items()})
            for start in range(0, n, BATCH)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}


RANDOM_OPERATORS = (b"RandomNormal", b"RandomUniform", b"Multinomial", b"Bernoulli")


def random_operators(path: Path) -> tuple[str, ...]:
    """Names of operators of a network file that draw random numbers; none may be in an artefact."""
    content = path.read_bytes()
    return tuple(name.decode() for name in RANDOM_OPERATORS if name in content)

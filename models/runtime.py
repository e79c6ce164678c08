"""The network in ONNX Runtime: best provider present, warm before it is used, same input same bytes."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# From 1.31 on, ONNX Runtime reports its use to its maker unless told not to before it is loaded. A machine
# in a hospital tells nobody what it does.
os.putenv("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.artefact import file_sha256
from models.errors import ArtefactError
from models.exhaustion import is_out_of_memory
from models.providers import (
    CPU,
    PREFERENCE,
    TENSORRT,
    Engine,
    alone_in,
    batch_shapes,
    choose_providers,
    engine_folder,
    find_gpu,
    padded_size,
    provider_options,
)
from models.runner import Feeds, Outputs

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
VERSION: str = onnxruntime.__version__
BATCH = 32  # Samples in one run of a network, unless its contract says otherwise.
PARITY = 1e-4  # Largest difference in float32 between providers and batches, as of ``difference``.
HALF_PARITY = 1e-2  # The same between fp16 and float32; above it the network runs in float32.
RANDOM_OPERATORS = (b"RandomNormal", b"RandomUniform", b"Multinomial", b"Bernoulli")


class Session:
    """One loaded network.

    Parameters
    ----------
    path : Path
        ``model.onnx``.
    providers : sequence of str
        Execution providers that may be used; those absent are left out.
    threads : int
        Of one run on the CPU; results are repeated exactly for the same number.
    example : Feeds, optional
        One sample of every input. TensorRT needs its shapes and is left out without them.
    batch : int
        Most samples in one run.
    half : bool
        Whether TensorRT may run layers in fp16.
    engines : Path, optional
        Folder in which TensorRT's engines are kept between starts.

    Raises
    ------
    ArtefactError
        If ONNX Runtime does not accept the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        providers: Sequence[str] = PREFERENCE,
        threads: int = 1,
        example: Feeds | None = None,
        batch: int = BATCH,
        half: bool = False,
        engines: Path | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # Higher levels fuse convolution and activation, which moves isolated pixels of a gradient map.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        # The arena keeps what the largest batch took, which the contract bounds; without it every run asks
        # the system anew and takes up to twice as long (tests/benchmarks/gradient_graph.py).
        options.enable_cpu_mem_arena = True
        chosen = choose_providers(providers, onnxruntime.get_available_providers())
        if example is None:
            chosen = tuple(name for name in chosen if name != TENSORRT)
        engine = Engine(
            samples={name: values.shape[1:] for name, values in (example or {}).items()},
            batch=batch,
            half=half,
            folder=_engines_here(engines, path, half=half) if engines and TENSORRT in chosen else None,
        )
        if TENSORRT in chosen:
            # TensorRT has no option of its own for it; see ``provider_options``.
            os.putenv("NVIDIA_TF32_OVERRIDE", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=[(name, provider_options(name, engine)) for name in chosen]
            )
        except REFUSALS as error:
            raise ArtefactError(path, "is not a network that ONNX Runtime can load; restore it") from error
        # A provider whose libraries are missing is dropped by ONNX Runtime, which goes on with the next.
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        self.inputs: tuple[str, ...] = tuple(node.name for node in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(node.name for node in self._session.get_outputs())
        self._batch = batch
        self._device = "cpu" if self.providers[0] == CPU else "cuda"
        self._shapes = () if self._device == "cpu" else batch_shapes(batch)

    @property
    def provider(self) -> str:
        """The execution provider that is asked first."""
        return self.providers[0]

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch by name.

        On an accelerator the batch is filled up to one of few shapes, whose kernels are known; what was
        filled in is not returned.
        """
        n = len(next(iter(feeds.values())))
        size = padded_size(n, self._shapes)
        binding = self._session.io_binding()
        # The binding borrows the memory of these until it has run.
        held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(_filled(values, size), self._device, 0)
            for name, values in feeds.items()
        }
        for name, values in held.items():
            binding.bind_ortvalue_input(name, values)
        for name in self.outputs:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        found = binding.copy_outputs_to_cpu()
        return {name: values[:n] for name, values in zip(self.outputs, found, strict=True)}

    def run_batched(self, feeds: Feeds) -> Outputs:
        """Every output of any number of samples, of one study or of many, in full batches."""
        n = len(next(iter(feeds.values())))
        parts = [
            self.run({name: values[start : start + self._batch] for name, values in feeds.items()})
            for start in range(0, n, self._batch)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def run_each(self, parts: Iterable[Feeds]) -> Iterator[Outputs]:
        """Every output of batches, one after another."""
        return map(self.run, parts)

    def warm_up(self, example: Feeds) -> None:
        """Run every batch shape once, so that the first study waits for no kernel or engine.

        Parameters
        ----------
        example : Feeds
            One sample of every input.
        """
        for size in self._shapes or (1,):
            try:
                self.run({name: _filled(values, size) for name, values in example.items()})
            except (*REFUSALS, RuntimeError) as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                return  # smaller ones are warm, and larger ones the batcher will not ask for


def open_session(
    path: Path,
    example: Feeds,
    *,
    providers: Sequence[str],
    threads: int,
    batch: int = BATCH,
    half: bool = False,
    engines: Path | None = None,
) -> Session:
    """A session that is ready: warm, and in fp16 only where this machine's fp16 agrees with its float32.

    Parameters
    ----------
    path, providers, threads, batch, half, engines
        As of ``Session``.
    example : Feeds
        One sample of every input, like those that will come.

    Raises
    ------
    ArtefactError
        If ONNX Runtime does not accept the file, or it needs other inputs or shapes.
    """

    def opened(*, half: bool) -> Session:
        return Session(
            path,
            providers=providers,
            threads=threads,
            example=example,
            batch=batch,
            half=half,
            engines=engines,
        )

    builds = TENSORRT in choose_providers(providers, onnxruntime.get_available_providers())
    with alone_in(engines if builds else None):
        session = opened(half=half)
        if set(session.inputs) != set(example):
            raise ArtefactError(path, f"has the inputs {', '.join(session.inputs)}, not {', '.join(example)}")
        try:
            if half and session.providers[0] == TENSORRT:
                exact = Session(path, providers=(CPU,), threads=threads)
                # Written so that NaN, the usual end of an overflow in fp16, counts as no agreement.
                if not difference(exact.run(example), session.run(example)) <= HALF_PARITY:
                    session = opened(half=False)
            session.warm_up(example)
        except (*REFUSALS, RuntimeError) as error:  # the second from bound inputs of another shape
            raise ArtefactError(
                path, "does not run on what its manifest describes; export it again"
            ) from error
    return session


def difference(expected: Outputs, found: Outputs) -> float:
    """How far two runs of a network are apart: the worst output's 99.9 % quantile.

    Parameters
    ----------
    expected, found : Outputs
        Of the same samples.

    Returns
    -------
    float
        Absolute differences as a share of the output's largest value.
    """
    apart = []
    for name, values in expected.items():
        largest = max(float(np.abs(values).max()), 1e-12)
        apart.append(float(np.quantile(np.abs(found[name] - values) / largest, 0.999)))
    return float(np.max(apart))


def random_operators(path: Path) -> tuple[str, ...]:
    """Names of operators of a network file that draw random numbers; none may be in an artefact."""
    content = path.read_bytes()
    return tuple(name.decode() for name in RANDOM_OPERATORS if name in content)


def _filled(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """``values`` with the last sample repeated up to ``size``."""
    missing = size - len(values)
    if missing <= 0:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _engines_here(root: Path, path: Path, *, half: bool) -> Path | None:
    """The folder of a network's engines on this machine, made if need be; None if no GPU tells its name."""
    gpu = find_gpu()
    if gpu is None:
        return None
    folder = engine_folder(root, gpu, file_sha256(path), VERSION, half=half)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder

"""What an accelerator is told: execution providers in order, engines kept on disk, shapes of a batch.

Functions over strings and numbers, so that what a GPU is told is tested where there is none.
"""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
PREFERENCE = (TENSORRT, CUDA, CPU)
LOCK = "building.lock"

Options = dict[str, str]
Shapes = Mapping[str, tuple[int, ...]]
"""Shape of one sample of each input, without the batch axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The first GPU of this machine.

    Attributes
    ----------
    name : str
        Such as ``NVIDIA H200``.
    driver : str
        Version of its driver.
    """

    name: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How TensorRT builds and keeps the engine of one network.

    Attributes
    ----------
    samples : Shapes
        One engine serves every batch from one sample to ``batch``.
    batch : int
    half : bool
        Whether layers may run in fp16. Inputs and outputs stay float32.
    folder : Path, optional
        Where engines are kept between starts; built at every start unless given.
    """

    samples: Shapes
    batch: int
    half: bool
    folder: Path | None


def choose_providers(wanted: Iterable[str], available: Iterable[str]) -> tuple[str, ...]:
    """Those of ``wanted`` that are available, TensorRT before CUDA before CPU; CPU always last."""
    both = set(wanted) & set(available)
    return (*(name for name in PREFERENCE[:-1] if name in both), CPU)


def provider_options(name: str, engine: Engine) -> Options:
    """What one execution provider is told.

    Float32 is float32 on every provider: TensorFloat-32 keeps ten bits of a product, too few for the
    parity with the CPU on which a model was calibrated.

    Parameters
    ----------
    name : str
        One of ``PREFERENCE``.
    engine : Engine
    """
    if name == CUDA:
        # Exhaustive search would pick other kernels from run to run, and so other last bits.
        return {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    if name != TENSORRT:
        return {}
    smallest, largest = _profile(engine.samples, 1), _profile(engine.samples, engine.batch)
    options = {
        "device_id": "0",
        "trt_fp16_enable": str(engine.half),
        "trt_profile_min_shapes": smallest,
        "trt_profile_opt_shapes": largest,
        "trt_profile_max_shapes": largest,
    }
    if engine.folder is not None:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(engine.folder),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(engine.folder),
        }
    return options


def engine_folder(root: Path, gpu: Gpu, network_sha256: str, runtime: str, *, half: bool) -> Path:
    """Where the engines of one network for one GPU are kept.

    An engine is machine code for one GPU, driver and network: with any of them changed the name is another,
    and the old engine is never loaded.

    Parameters
    ----------
    root : Path
        Folder of all engines.
    gpu : Gpu
    network_sha256 : str
        Of ``model.onnx``.
    runtime : str
        Version of ONNX Runtime, which splits the network into engines.
    half : bool
    """
    precision = "fp16" if half else "fp32"
    parts = (gpu.name, f"driver {gpu.driver}", f"ort {runtime}", network_sha256[:16], precision)
    return root / "_".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in parts)


@contextmanager
def alone_in(folder: Path | None) -> Iterator[None]:
    """Hold a folder of engines: an engine takes minutes to write, and nobody may read half of one.

    Parameters
    ----------
    folder : Path, optional
        Made if need be. None holds nothing.
    """
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # Let go of when the file is closed, also by a dying process.
        yield


def batch_shapes(batch: int) -> tuple[int, ...]:
    """Batch sizes that an accelerator sees: powers of two below ``batch``, and ``batch``.

    Every new shape costs a GPU a search for kernels, so there are few, and all are run once before the
    model says that it is ready.
    """
    return (*(2**power for power in range(batch.bit_length()) if 2**power < batch), batch)


def padded_size(n: int, shapes: Sequence[int]) -> int:
    """The smallest of ascending ``shapes`` that holds ``n`` samples; ``n`` if none does."""
    return next((shape for shape in shapes if shape >= n), n)


def find_gpu() -> Gpu | None:
    """The first GPU, asked of NVIDIA's own tool; None where there is none or the tool is missing."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_gpu(told.stdout) if told.returncode == 0 else None


def read_gpu(told: str) -> Gpu | None:
    """The first line of ``nvidia-smi --query-gpu=name,driver_version --format=csv,noheader``."""
    name, comma, driver = (told.splitlines() or [""])[0].rpartition(",")
    if not comma or not name.strip() or not driver.strip():
        return None
    return Gpu(name=name.strip(), driver=driver.strip())


def _profile(samples: Shapes, batch: int) -> str:
    """Shapes as TensorRT reads them, ``x:8x1x64x64,position:8``."""
    return ",".join(
        f"{name}:{'x'.join(str(edge) for edge in (batch, *shape))}" for name, shape in samples.items()
    )

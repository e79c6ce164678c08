"""Whether the model is whole, loads, and says what it said at its release; and on which device.

For a shipped network it is on record what it makes of a few samples (`recorded.json`, by the hash of
``model.onnx``, made by ``python -m tests.recorded_examples``). The same samples run here, on the device that
scores: another answer means a broken runtime, driver or device. Of a site's own network nothing is on record;
its answer must be numbers, twice the same.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from models.artefact import NETWORK, Artefact, PictureArtefact
from models.errors import ModelError
from models.predictor import AnyPredictor, load_predictor
from models.providers import CPU, CUDA, TENSORRT, find_gpu
from models.runner import Outputs
from service import wiring
from service.doctor.answers import Check, failed, failure, ok, unused, warning
from service.errors import SettingsError
from service.settings import Settings

RECORDED = Path(__file__).with_name("recorded.json")
SAMPLES = 2
TOLERANCE = 1e-2  # as a share of the output's largest value; an accelerator may run in fp16
MARKS = (0.5, 0.9, 0.99, 1.0)  # quantiles that stand for an output of some ten thousand numbers

RESTORE = (
    "Restore the artefact's folder from the release, or put another one in service with `vigil models"
    " activate`. Nothing is scored until then."
)

Marks = dict[str, list[float]]


def examine(settings: Settings) -> Iterator[Check]:
    """The artefact, its example, and the device."""
    try:
        artefact = wiring.open_artefact(settings)
    except ModelError as error:
        yield failure("model", "artefact", error, remedy=RESTORE)
    except SettingsError as error:
        yield failure("model", "artefact", error)
    else:
        manifest = artefact.manifest
        yield ok(
            "model",
            "artefact",
            f"{manifest.name} {manifest.version}, {artefact.sha256[:16]}: every file as released",
        )
        yield from _running(settings, artefact)
    yield _device(settings)


def measure(predictor: AnyPredictor) -> Marks:
    """What a network makes of its first few example samples, as a few numbers for each output."""
    return _marks(_run(predictor))


def network_sha256(artefact: Artefact | PictureArtefact) -> str:
    """Hash of the network alone: calibration and card may change beside it."""
    return artefact.manifest.files[NETWORK]


def _running(settings: Settings, artefact: Artefact | PictureArtefact) -> Iterator[Check]:
    try:
        predictor = load_predictor(
            artefact, threads=settings.threads, engines=settings.engines_folder, server=settings.triton
        )
        found, again = _run(predictor), _run(predictor)
    except ModelError as error:
        yield failure("model", "runs", error)
        return
    yield ok("model", "runs", "loaded, and its example was run twice")
    if any(not np.isfinite(values).all() for values in found.values()) or any(
        values.tobytes() != again[name].tobytes() for name, values in found.items()
    ):
        yield failed(
            "model",
            "example",
            "the network gives no numbers, or other ones each time",
            "Run `vigil models verify`; if that passes, look after the GPU and its driver.",
        )
        return
    expected: Marks | None = json.loads(RECORDED.read_text(encoding="ascii")).get(network_sha256(artefact))
    if expected is None:
        yield unused("model", "example", "nothing is on record of a site's own network; it gives numbers")
    elif apart := differing(expected, _marks(found)):
        yield failed(
            "model",
            "example",
            f"the network does not say what it said at its release: {', '.join(apart)}",
            "Install the versions of constraints.txt, and look after the GPU and its driver. Until then set"
            " VIGIL_MODEL to no other model: scores of this machine do not fit the calibration.",
        )
    else:
        yield ok("model", "example", "says what it said at its release")


def differing(expected: Marks, found: Marks) -> list[str]:
    """Names of outputs that are not what was expected."""
    return [
        name
        for name, values in expected.items()
        if name not in found
        # Not "above": what is no number compares with nothing.
        or not np.abs(np.subtract(values, found[name])).max() <= TOLERANCE * np.abs(values).max()
    ]


def _run(predictor: AnyPredictor) -> Outputs:
    return predictor.runner.run({name: values[:SAMPLES] for name, values in predictor.examples().items()})


def _marks(outputs: Outputs) -> Marks:
    return {name: [float(mark) for mark in np.quantile(values, MARKS)] for name, values in outputs.items()}


def _device(settings: Settings) -> Check:
    """Whether the GPU there is, is the one that scores."""
    gpu = find_gpu()
    providers = set(onnxruntime.get_available_providers())
    has_provider = bool(providers & {CUDA, TENSORRT})
    if settings.triton is not None:
        return unused("gpu", "provider", "an inference server runs the network (VIGIL_TRITON)")
    if gpu is None and not has_provider:
        return unused("gpu", "provider", f"no GPU; {CPU} on {settings.threads} threads")
    if gpu is None:
        return warning(
            "gpu",
            "provider",
            "ONNX Runtime is made for a GPU, and `nvidia-smi` finds none: the CPU scores",
            "Give this machine its GPU (driver, container runtime, request), or install onnxruntime.",
        )
    if not has_provider:
        return warning(
            "gpu",
            "provider",
            f"{gpu.name} is there, and ONNX Runtime is made for the CPU alone",
            "Install onnxruntime-gpu in place of onnxruntime (see the GPU stage of the Dockerfile).",
        )
    return ok("gpu", "provider", f"{gpu.name}, driver {gpu.driver}, {', '.join(sorted(providers))}")

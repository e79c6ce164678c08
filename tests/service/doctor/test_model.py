"""What a network said at its release, and the device that scores."""

import pytest

from models.providers import CPU, CUDA, Gpu
from service.doctor import Outcome
from service.doctor import model as examined
from service.doctor.model import TOLERANCE, differing
from service.settings import load_settings

GPU = Gpu(name="NVIDIA H200", driver="575.51")


@pytest.mark.parametrize(
    ("found", "apart"),
    [
        ({"map": [0.0, 2.0]}, []),
        ({"map": [0.0, 2.0 * (1 - TOLERANCE / 2)]}, []),
        ({"map": [0.0, 2.0 * (1 - TOLERANCE * 2)]}, ["map"]),
        ({"map": [0.0, float("nan")]}, ["map"]),
        ({"other": [0.0, 2.0]}, ["map"]),
    ],
)
def test_an_output_that_moved_further_than_an_accelerator_may_is_named(
    found: dict[str, list[float]], apart: list[str]
) -> None:
    assert differing({"map": [0.0, 2.0]}, found) == apart


@pytest.mark.parametrize(
    ("gpu", "providers", "outcome"),
    [
        (None, [CPU], Outcome.UNUSED),
        (GPU, [CUDA, CPU], Outcome.OK),
        (GPU, [CPU], Outcome.WARNING),
        (None, [CUDA, CPU], Outcome.WARNING),
    ],
)
def test_a_gpu_that_nobody_uses_and_a_provider_without_one_are_told(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, providers: list[str], outcome: Outcome
) -> None:
    monkeypatch.setattr(examined, "find_gpu", lambda: gpu)
    monkeypatch.setattr(examined.onnxruntime, "get_available_providers", lambda: providers)

    check = examined._device(load_settings())

    assert check.outcome is outcome
    assert bool(check.remedy) is (outcome is Outcome.WARNING)

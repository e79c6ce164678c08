import fcntl
from pathlib import Path

import pytest

from models.providers import (
    CPU,
    CUDA,
    LOCK,
    PREFERENCE,
    TENSORRT,
    Engine,
    Gpu,
    alone_in,
    batch_shapes,
    choose_providers,
    engine_folder,
    find_gpu,
    padded_size,
    provider_options,
    read_gpu,
)

H200 = Gpu(name="NVIDIA H200", driver="580.65.06")
SHA256 = "0123456789abcdef" * 4


def engine(*, half: bool = False, folder: Path | None = None) -> Engine:
    return Engine(samples={"x": (3, 64, 48), "position": ()}, batch=32, half=half, folder=folder)


def test_tensorrt_comes_before_cuda_and_cuda_before_the_cpu() -> None:
    backwards = tuple(reversed(PREFERENCE))

    assert choose_providers(backwards, backwards) == (TENSORRT, CUDA, CPU)
    assert choose_providers(PREFERENCE, (CPU, CUDA)) == (CUDA, CPU)


def test_cpu_is_always_left_and_stands_last() -> None:
    assert choose_providers((), PREFERENCE) == (CPU,)
    assert choose_providers(PREFERENCE, ()) == (CPU,)
    assert choose_providers(("NoSuchProvider",), ("NoSuchProvider", CPU)) == (CPU,)


def test_one_engine_serves_every_batch_up_to_the_largest() -> None:
    options = provider_options(TENSORRT, engine())

    assert options["trt_profile_min_shapes"] == "x:1x3x64x48,position:1"
    assert options["trt_profile_opt_shapes"] == "x:32x3x64x48,position:32"
    assert options["trt_profile_max_shapes"] == "x:32x3x64x48,position:32"


def test_engines_are_kept_only_where_a_folder_is_given() -> None:
    assert not any("cache" in name for name in provider_options(TENSORRT, engine()))

    kept = provider_options(TENSORRT, engine(folder=Path("/engines/one")))

    assert (kept["trt_engine_cache_enable"], kept["trt_engine_cache_path"]) == ("True", "/engines/one")
    assert (kept["trt_timing_cache_enable"], kept["trt_timing_cache_path"]) == ("True", "/engines/one")


def test_half_precision_is_used_only_where_asked_for() -> None:
    assert provider_options(TENSORRT, engine(half=True))["trt_fp16_enable"] == "True"
    assert provider_options(TENSORRT, engine(half=False))["trt_fp16_enable"] == "False"


def test_cuda_keeps_float32_whole_and_the_cpu_is_told_nothing() -> None:
    assert provider_options(CUDA, engine())["use_tf32"] == "0"
    assert provider_options(CPU, engine()) == {}


def test_engine_of_another_gpu_driver_network_runtime_or_precision_is_another() -> None:
    root = Path("/engines")
    folders = [
        engine_folder(root, H200, SHA256, "1.31.1", half=False),
        engine_folder(root, Gpu(name="NVIDIA L4", driver=H200.driver), SHA256, "1.31.1", half=False),
        engine_folder(root, Gpu(name=H200.name, driver="580.65.07"), SHA256, "1.31.1", half=False),
        engine_folder(root, H200, SHA256[::-1], "1.31.1", half=False),
        engine_folder(root, H200, SHA256, "1.31.2", half=False),
        engine_folder(root, H200, SHA256, "1.31.1", half=True),
    ]

    assert len(set(folders)) == len(folders)
    assert folders[0] == root / "nvidia-h200_driver-580.65.06_ort-1.31.1_0123456789abcdef_fp32"


def test_name_of_a_gpu_cannot_leave_the_folder_of_engines() -> None:
    strange = Gpu(name="../../etc/GPU", driver="../1")

    assert engine_folder(Path("/engines"), strange, SHA256, "1", half=False).parent == Path("/engines")


def test_engines_are_written_by_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "engines"

    with alone_in(folder), (folder / LOCK).open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with (folder / LOCK).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_batches_come_in_few_shapes_up_to_the_largest() -> None:
    assert batch_shapes(32) == (1, 2, 4, 8, 16, 32)
    assert batch_shapes(20) == (1, 2, 4, 8, 16, 20)
    assert batch_shapes(1) == (1,)


def test_batch_is_filled_up_to_the_next_shape() -> None:
    shapes = batch_shapes(32)

    assert [padded_size(n, shapes) for n in (1, 3, 17, 32)] == [1, 4, 32, 32]
    assert padded_size(7, ()) == 7


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("NVIDIA H200, 580.65.06\n", H200),
        ("NVIDIA H200, 580.65.06\nNVIDIA L4, 580.65.06\n", H200),
        ("", None),
        ("NVIDIA-SMI has failed\n", None),
        (", 580.65.06\n", None),
    ],
)
def test_gpu_is_read_from_what_the_tool_tells(told: str, expected: Gpu | None) -> None:
    assert read_gpu(told) == expected


@pytest.mark.parametrize(("script", "expected"), [("echo 'NVIDIA H200, 580.65.06'", H200), ("exit 9", None)])
def test_gpu_is_asked_of_the_tool_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: Gpu | None
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_gpu() == expected


def test_machine_without_the_tool_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_gpu() is None

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.exhaustion import is_out_of_memory
from models.providers import CPU
from models.runtime import Session


def test_what_onnx_runtime_raises_when_memory_is_used_up_is_recognised(tmp_path: Path) -> None:
    """A network that wants 2 ** 50 numbers of a sample."""
    graph = helper.make_graph(
        [
            helper.make_node("Expand", ["x", "shape"], ["huge"]),
            helper.make_node("ReduceMax", ["huge", "axes"], ["y"], keepdims=0),
        ],
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(np.array([1, 1 << 50], np.int64), "shape"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "huge.onnx")

    with pytest.raises(RuntimeError) as raised:
        Session(tmp_path / "huge.onnx", providers=(CPU,)).run({"x": np.ones((1, 1), np.float32)})

    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "TensorRT EP execution context enqueue failed: Cuda Runtime (out of memory)",
        "std::bad_alloc",
    ],
)
def test_what_accelerators_say_of_it_is_recognised(message: str) -> None:
    assert is_out_of_memory(state.Fail(f"[ONNXRuntimeError] : 1 : FAIL : {message}"))


def test_another_failure_is_not_taken_for_it() -> None:
    assert not is_out_of_memory(state.InvalidArgument("[ONNXRuntimeError] : 2 : Got invalid dimensions"))

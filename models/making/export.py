"""One ONNX graph with the gradient inside and a dynamic batch.

``torch.func.grad`` is traced to plain operators (``make_fx``), whose convolution gradients are replaced by
convolutions; what remains is an ordinary forward graph that both exporters accept.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

OPSET = 18


def _input_gradient(
    grad_output: Tensor,
    x: Tensor,
    weight: Tensor,
    _bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
    _output_mask: list[bool],
) -> tuple[Tensor, None, None]:
    """``convolution_backward`` for the input alone: the gradient of a convolution is a convolution."""
    if transposed:
        found = torch.ops.aten.convolution(
            grad_output, weight, None, stride, padding, dilation, False, [0] * len(stride), groups
        )
        return found, None, None
    missing = [
        int(x.shape[2 + i])
        - (
            (int(grad_output.shape[2 + i]) - 1) * stride[i]
            - 2 * padding[i]
            + dilation[i] * (int(weight.shape[2 + i]) - 1)
            + 1
        )
        for i in range(len(stride))
    ]
    found = torch.ops.aten.convolution(
        grad_output, weight, None, stride, padding, dilation, True, missing, groups
    )
    return found, None, None


def _filled(
    size: list[int],
    _physical_layout: list[int],
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    requires_grad: bool | None = None,
) -> Tensor:
    """``empty_permuted`` (group norm's backward asks for it) as zeros, which the exporters know."""
    del layout, pin_memory, requires_grad
    return torch.zeros(size, dtype=dtype, device=device)


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Core decompositions with the entries the exporters lack."""
    table = dict(core_aten_decompositions())
    table[torch.ops.aten.empty_permuted.default] = _filled
    table[torch.ops.aten.convolution_backward.default] = _input_gradient
    return table


def export_onnx(scorer: nn.Module, example: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> None:
    """Write ``scorer`` as one ONNX file with its weights inside.

    Parameters
    ----------
    scorer : nn.Module
        Gives a tuple of tensors; the outermost module decides what the exporter restores.
    example : mapping of str to Tensor
        Arguments by name, in order, of a batch of at least two, so that the batch stays dynamic.
    outputs : sequence of str
        Names of what comes out.
    path : Path
        Target file.
    """
    scorer.eval()
    for parameter in scorer.parameters():
        parameter.requires_grad = False
    traced = make_fx(
        scorer,
        decomposition_table=decompositions(),
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,  # the weights are real and become constants
    )(*example.values())
    batch = Dim("batch", min=1, max=4096)
    program = torch.export.export(
        traced, tuple(example.values()), dynamic_shapes=tuple({0: batch} for _ in example)
    )
    torch.onnx.export(
        program,
        (),
        str(path),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(example),
        output_names=list(outputs),
        external_data=False,
        verbose=False,
    )

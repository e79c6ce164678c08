"""One ONNX graph with the gradient inside and a dynamic batch.

``torch.func.grad`` is traced to plain operators (``make_fx``), whose convolution gradients are replaced by
convolutions; what remains is an ordinary forward graph that both exporters accept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from models.making.scorers import OUTPUTS

INPUTS = ("slices", "position")
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


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Core decompositions with the one entry the exporters lack."""
    table = dict(core_aten_decompositions())
    table[torch.ops.aten.convolution_backward.default] = _input_gradient
    return table


def export_onnx(scorer: nn.Module, example: tuple[Tensor, Tensor], path: Path) -> None:
    """Write ``scorer`` as one ONNX file with its weights inside.

    Parameters
    ----------
    scorer : nn.Module
        In eval mode; the outermost module decides what the exporter restores.
    example : tuple of Tensor
        ``slices`` and ``position`` of a batch of at least two, so that the batch stays dynamic.
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
    )(*example)
    batch = Dim("batch", min=1, max=4096)
    program = torch.export.export(traced, example, dynamic_shapes=({0: batch}, {0: batch}))
    torch.onnx.export(
        program,
        (),
        str(path),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        external_data=False,
        verbose=False,
    )

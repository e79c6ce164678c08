"""How a device says that its memory is used up."""

import re

from models.runtime import REFUSALS

# ONNX Runtime has no class of its own for it: what a provider's allocator or library says stands in the
# message of a general error. In turn: the arena of CPU and CUDA, the CPU without arena, CUDA, cuBLAS and
# cuDNN, TensorRT.
_MARKS = re.compile(
    r"Failed to allocate memory|bad_alloc|bad allocation|out of memory|OutOfMemory|OUT_OF_MEMORY"
    r"|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|Available memory of .* is smaller than requested",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a run says that a smaller batch might fit."""
    if isinstance(error, MemoryError):
        return True
    # Through bound inputs every refusal of a provider comes out as a RuntimeError.
    return isinstance(error, (*REFUSALS, RuntimeError)) and _MARKS.search(str(error)) is not None

"""How a device says that its memory is used up."""

import re

# ONNX Runtime has no class of its own for it: what a provider's allocator or library says stands in the
# message of whatever general error comes out, which differs between ways to run. In turn: the arena of CPU
# and CUDA, the CPU without arena, CUDA, cuBLAS and cuDNN, TensorRT.
_MARKS = re.compile(
    r"Failed to allocate memory|bad_alloc|bad allocation|out of memory|OutOfMemory|OUT_OF_MEMORY"
    r"|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|Available memory of .* is smaller than requested",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a run says that a smaller batch might fit."""
    return isinstance(error, MemoryError) or says_out_of_memory(str(error))


def says_out_of_memory(text: str) -> bool:
    """Whether a message of a provider, or of a server about its provider, is about memory."""
    return _MARKS.search(text) is not None

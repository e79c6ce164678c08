"""The table of preparation steps, and the preparation of a study by its contract."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.images import levels, narrowing, placing
from models.images.contract import ImageContract, Resize
from models.images.draft import Draft
from models.images.masks import assessed_mask

VERSION = "picture-1"  # Raised by whoever changes what a network sees of the same pixels.
STEPS: dict[str, Callable[[Draft, Any], Draft]] = {
    "resize": placing.resize,
    "crop_padding": placing.crop_padding,
    "crop_content": placing.crop_content,
    "align_midline": placing.align_midline,
    "crop_disc": placing.crop_disc,
    "mirror_left_eyes": placing.mirror_left_eyes,
    "take_channels": levels.take_channels,
    "erode_mask": narrowing.erode_mask,
    "inside_skull": narrowing.inside_skull,
    "percentile_scale": levels.percentile_scale,
    "window_normalise": levels.window_normalise,
    "equalise": levels.equalise,
    "append_equalised": levels.append_equalised,
    "zscore_clip": levels.zscore_clip,
    "subtract_local_mean": levels.subtract_local_mean,
}


def prepare(
    pixels: NDArray[np.float32],
    contract: ImageContract,
    *,
    original_shape: tuple[int, int] | None = None,
    is_left_eye: bool = False,
) -> Draft:
    """One study as its contract wants it.

    Colour becomes grey (the mean of the channels) where the contract has one channel and the steps left more.

    Parameters
    ----------
    pixels : float32, shape (slices, channels, rows, columns)
        Brightness in [0, 1]. Single pictures are stacks of one slice.
    contract : ImageContract
    original_shape : tuple of int, optional
        Rows and columns before the file was padded to a square.
    is_left_eye : bool
        Whether a fundus photograph shows a left eye.

    Returns
    -------
    Draft
        ``pixels`` has the contract's size and is 0 outside ``mask``.

    Raises
    ------
    ValueError
        If the steps do not end with the contract's number of channels.
    """
    draft = Draft(
        pixels=pixels,
        mask=assessed_mask(pixels, contract.mask),
        grid=np.eye(3),
        contract=contract,
        original_shape=original_shape,
        is_left_eye=is_left_eye,
    )
    steps = contract.steps if any(step.step == "resize" for step in contract.steps) else None
    for step in steps or (*contract.steps, Resize()):
        draft = STEPS[step.step](draft, step)
    ready = draft.pixels
    if contract.channels == 1 and ready.shape[1] > 1:
        ready = draft.grey[:, None]
    if ready.shape[1] != contract.channels:
        raise ValueError(
            f"the steps end with {ready.shape[1]} channels, the contract has {contract.channels}"
        )
    ready = ready if draft.mask.all() else np.where(draft.mask[:, None], ready, np.float32(0))
    return replace(draft, pixels=np.ascontiguousarray(ready, dtype=np.float32))

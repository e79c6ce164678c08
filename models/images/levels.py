"""Preparation steps that change intensities. Statistics are those of the mask over the whole stack."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.contract import (
    AppendEqualised,
    Equalise,
    PercentileScale,
    SubtractLocalMean,
    TakeChannels,
    WindowNormalise,
    ZscoreClip,
)
from models.images.draft import Draft

SMALLEST_SPREAD = 1e-6  # Below it there is no contrast to stretch, only rounding.
NORMAL_PER_DEVIATION = 1.4826  # Standard deviation of a normal variable per median absolute deviation.


def take_channels(draft: Draft, step: TakeChannels) -> Draft:
    """Keep some channels, in this order. A fundus photograph's blue channel is nearly empty.

    Raises
    ------
    ValueError
        If the picture has fewer channels.
    """
    if max(step.channels) >= draft.pixels.shape[1]:
        raise ValueError(
            f"take_channels wants channel {max(step.channels)}, the picture has {draft.pixels.shape[1]}"
        )
    return replace(draft, pixels=draft.pixels[:, list(step.channels)])


def percentile_scale(draft: Draft, step: PercentileScale) -> Draft:
    """Map two percentiles of the mask to 0 and 1, each channel for itself, and clip."""
    scaled = draft.pixels.copy()
    for channel, inside in enumerate(_inside(draft)):
        low, high = np.percentile(inside, [step.low, step.high]) if inside.size else (0.0, 1.0)
        scaled[:, channel] = (draft.pixels[:, channel] - low) / max(high - low, SMALLEST_SPREAD)
    return replace(draft, pixels=np.clip(scaled, 0, 1))


def window_normalise(draft: Draft, step: WindowNormalise) -> Draft:
    """Bring the median and the robust spread of the soft tissue to fixed values, and clip.

    Screen captures of CT were made with unknown windows; brain fills most of the head and is neither black
    nor white in any of them, so its middle and spread stand for the window. Bone saturates at 1.
    """
    changed = draft.pixels.copy()
    for channel, inside in enumerate(_inside(draft)):
        soft = inside[(inside > step.low) & (inside < step.high)]
        if soft.size == 0:
            continue
        middle = float(np.median(soft))
        spread = NORMAL_PER_DEVIATION * float(np.median(np.abs(soft - middle)))
        gain = step.spread / max(spread, SMALLEST_SPREAD)
        changed[:, channel] = (draft.pixels[:, channel] - middle) * gain + step.centre
    return replace(draft, pixels=np.clip(changed, 0, 1))


def equalise(draft: Draft, step: Equalise) -> Draft:
    """Replace every intensity by the share of the mask that is not brighter, over the whole stack."""
    changed = draft.pixels.copy()
    for channel, inside in enumerate(_inside(draft)):
        changed[:, channel] = equalised(draft.pixels[:, channel], inside, step.bins)
    return replace(draft, pixels=changed)


def append_equalised(draft: Draft, step: AppendEqualised) -> Draft:
    """Add a channel with the equalised mean of those there are."""
    inside = draft.grey[draft.mask]
    extra = equalised(draft.grey, inside, step.bins)
    return replace(draft, pixels=np.concatenate([draft.pixels, extra[:, None]], axis=1))


def equalised(values: NDArray[np.float32], reference: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Rank of every value among the reference values, in [0, 1], interpolated between bins."""
    if reference.size == 0 or float(np.ptp(reference)) < SMALLEST_SPREAD:
        return np.zeros_like(values)
    counts, edges = np.histogram(reference, bins=bins)
    shares = np.concatenate([[0.0], np.cumsum(counts) / reference.size])
    ranks: NDArray[np.float32] = np.interp(values, edges, shares).astype(np.float32)
    return ranks


def zscore_clip(draft: Draft, step: ZscoreClip) -> Draft:
    """Standardise inside the mask, clip at ``limit`` on either side, and map the clipped range to [0, 1]."""
    changed = draft.pixels.copy()
    for channel, inside in enumerate(_inside(draft)):
        mean, spread = (float(inside.mean()), float(inside.std())) if inside.size else (0.0, 1.0)
        z = (draft.pixels[:, channel] - mean) / max(spread, SMALLEST_SPREAD)
        changed[:, channel] = np.clip(z, -step.limit, step.limit) / (2 * step.limit) + 0.5
    return replace(draft, pixels=changed)


def subtract_local_mean(draft: Draft, step: SubtractLocalMean) -> Draft:
    """Take the mean of the surroundings inside the mask off; the difference times ``gain`` about 0.5."""
    sigma = step.sigma * max(draft.shape)
    weight = ndimage.gaussian_filter(draft.mask.astype(np.float32), (0, sigma, sigma))[:, None]
    inside = draft.pixels * draft.mask[:, None]
    mean = ndimage.gaussian_filter(inside, (0, 0, sigma, sigma)) / np.maximum(weight, SMALLEST_SPREAD)
    return replace(draft, pixels=np.clip((draft.pixels - mean) * step.gain + 0.5, 0, 1))


def _inside(draft: Draft) -> list[NDArray[np.float32]]:
    """Values in the mask, a list over channels."""
    return [draft.pixels[:, channel][draft.mask] for channel in range(draft.pixels.shape[1])]

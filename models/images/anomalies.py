"""Synthetic anomalies of pictures and stacks: what stands in for findings where there are no labels.

Local ones change a place and say where; global ones change the whole study. The kinds are those of the MOOD
challenge's report (Zimmerer et al. 2022) and its toy spheres. They are not disease, and a table made with
them says so.

Sizes are shares of the body's diameter, and a stack is taken to be as high as the body is long, because
spacings are not recorded everywhere. Intensities are brightness in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RADII = (0.04, 0.15)  # Range of drawn radii, as shares of the body's diameter.
INNER = 0.2  # Middles lie at least this share of the body's greatest depth below its surface.
SMALLEST_RADIUS = 1.5  # Pixels; below it nothing but noise is left after resizing.
EDGE_SHARE = 0.25  # Softness of a soft edge, as a share of the radius.
ROUGHNESS = 0.35  # How far a blob's edge wanders, as a share of its radius.
MOST_DEVIATIONS = 3.0  # Contrast of the brightest and the darkest blob, in standard deviations of the body.
STROKES = 4  # Of an embedded glyph.
BEND = 0.06  # Largest displacement of a deformation, as a share of the body's diameter.
STRETCH = (0.7, 1.35)  # Factors of the rare variant.
BLUR = 0.025  # Standard deviation of the blur, as a share of the body's diameter.
NOISE = 0.12  # Standard deviation of the noise, in brightness.
DROPPED = 0.2  # Share of a stack's slices that are lost together.


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A study on the prepared grid; single pictures are stacks of one.

    Attributes
    ----------
    pixels : float32, shape (slices, channels, rows, columns)
    mask : bool, shape (slices, rows, columns)
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """What is fixed of an anomaly; the rest is drawn.

    Attributes
    ----------
    intensity : float, optional
        In [0, 1]: brightness of spheres and glyphs, contrast of blobs and of local contrast from strongly
        dark or flat to strongly bright or crisp with 0.5 for no change, strength of global kinds.
    radius : float, optional
        Share of the body's diameter.
    slices : bool, shape (slices,), optional
        Where a local anomaly may have its middle.
    """

    intensity: float | None = None
    radius: float | None = None
    slices: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A changed study.

    Attributes
    ----------
    pixels : float32, shape (slices, channels, rows, columns)
    mask : bool, shape (slices, rows, columns)
    lesion : bool, shape (slices, rows, columns), or None
        What was changed, where the anomaly is local.
    touched : bool, shape (slices,)
        Slices that are abnormal now.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    lesion: NDArray[np.bool_] | None
    touched: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One kind of anomaly."""

    scope: Literal["local", "global"]
    make: Callable[[Stack, np.random.Generator, Dose], Anomaly]
    needs_stack: bool = False


def diameter(stack: Stack) -> float:
    """Diameter in pixels of a disc as large as the body's largest slice."""
    return 2 * float(np.sqrt(stack.mask.sum(axis=(1, 2)).max() / np.pi))


def sphere(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A toy sphere: a ball or a cube of one intensity, half of them with a soft edge."""
    radius, distance, box = _place(stack, rng, dose)
    shape = box if rng.random() < 0.5 else distance  # noqa: PLR2004 - one half
    soft = rng.random() < 0.5  # noqa: PLR2004 - one half
    drawn = rng.random()
    intensity = drawn if dose.intensity is None else dose.intensity
    profile = _soft(shape, radius) if soft else (shape <= radius).astype(np.float32)
    return _local(stack, profile, np.float32(intensity), shape <= radius)


def blob(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A lesion-like blob: rough outline, soft edge, brighter or darker than what it lies in."""
    radius, distance, _ = _place(stack, rng, dose)
    noise = _smooth_noise(stack, rng, radius)
    distance = distance - ROUGHNESS * radius * noise
    drawn = rng.choice([-1.0, 1.0]) * rng.uniform(1.0, MOST_DEVIATIONS)
    deviations = drawn if dose.intensity is None else (2 * dose.intensity - 1) * MOST_DEVIATIONS
    spread = float(stack.pixels.mean(axis=1)[stack.mask].std())
    target = np.clip(stack.pixels + np.float32(deviations * spread), 0, 1)
    return _local(stack, _soft(distance, radius), target, distance <= radius)


def contrast(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A place where contrast is flattened or exaggerated about its own mean."""
    radius, distance, _ = _place(stack, rng, dose)
    drawn = rng.choice([rng.uniform(0.0, 0.4), rng.uniform(2.0, 3.0)])
    gain = drawn if dose.intensity is None else 2 * dose.intensity
    lesion = (distance <= radius) & stack.mask
    mean = np.array([channel[lesion].mean() for channel in stack.pixels.swapaxes(0, 1)], dtype=np.float32)
    mean = mean[None, :, None, None]
    target = np.clip((stack.pixels - mean) * np.float32(gain) + mean, 0, 1)
    return _local(stack, _soft(distance, radius), target, lesion)


def embedded(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A foreign picture: strokes of a glyph, as of a marker, a catheter or text."""
    radius, distance, box = _place(stack, rng, dose)
    middle = np.unravel_index(np.argmin(distance), distance.shape)
    rows, columns = np.ogrid[: stack.mask.shape[1], : stack.mask.shape[2]]
    ends = rng.uniform(-0.9, 0.9, (STROKES + 1, 2)) * radius + np.array(middle[1:])
    drawn = rng.random()
    intensity = drawn if dose.intensity is None else dose.intensity
    nearest = np.full(stack.mask.shape[1:], np.inf)
    for (row, column), (row_end, column_end) in pairwise(ends):
        along = np.array([row_end - row, column_end - column])
        share = ((rows - row) * along[0] + (columns - column) * along[1]) / max(float(along @ along), 1e-9)
        share = np.clip(share, 0, 1)
        away = np.hypot(rows - row - share * along[0], columns - column - share * along[1])
        nearest = np.minimum(nearest, away)
    strokes = (nearest <= max(0.75, 0.15 * radius))[None] & (box <= radius)
    return _local(stack, strokes.astype(np.float32), np.float32(intensity), strokes)


def shuffle(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A place whose pixels are put in another order: right intensities, no anatomy."""
    radius, distance, _ = _place(stack, rng, dose)
    lesion = (distance <= radius) & stack.mask
    pixels = stack.pixels.copy()
    order = rng.permutation(int(lesion.sum()))
    for channel in range(pixels.shape[1]):
        plane = pixels[:, channel]
        plane[lesion] = plane[lesion][order]
    return Anomaly(pixels=pixels, mask=stack.mask, lesion=lesion, touched=_any(lesion))


def deformation(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """The body bent smoothly, all slices alike."""
    size = diameter(stack)
    fields = ndimage.gaussian_filter(
        rng.standard_normal((2, *stack.mask.shape[1:])), (0, size / 8, size / 8), mode="nearest"
    )
    fields /= np.abs(fields).max(axis=(1, 2), keepdims=True)
    amplitude = BEND * size * (1.0 if dose.intensity is None else 2 * dose.intensity)
    rows, columns = np.indices(stack.mask.shape[1:])
    return _resampled(stack, rows + amplitude * fields[0], columns + amplitude * fields[1])


def variant(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A rare variant: the body upside down, or too long or too short in one direction."""
    kind = rng.integers(3)
    drawn = float(rng.choice(STRETCH))
    factor = drawn if dose.intensity is None else STRETCH[0] + dose.intensity * (STRETCH[1] - STRETCH[0])
    factors = [-1.0 if kind == 0 else factor if kind == axis + 1 else 1.0 for axis in range(2)]
    factors[1] = abs(factors[1])
    grids = np.indices(stack.mask.shape[1:])
    _, rows, columns = np.nonzero(stack.mask)
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    row, column = ((grids[axis] - middle[axis]) / factors[axis] + middle[axis] for axis in range(2))
    return _resampled(stack, row, column)


def degraded(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """The whole study blurred or noisy."""
    strength = 1.0 if dose.intensity is None else 2 * dose.intensity
    if rng.random() < 0.5:  # noqa: PLR2004 - one half
        sigma = BLUR * diameter(stack) * strength
        pixels = ndimage.gaussian_filter(stack.pixels, (0, 0, sigma, sigma))
    else:
        noise = rng.standard_normal(stack.pixels.shape).astype(np.float32)
        pixels = np.clip(stack.pixels + np.float32(NOISE * strength) * noise, 0, 1)
    pixels = np.where(stack.mask[:, None], pixels, np.float32(0))
    return Anomaly(pixels=pixels, mask=stack.mask, lesion=None, touched=_any(stack.mask))


def dropped(stack: Stack, rng: np.random.Generator, dose: Dose) -> Anomaly:
    """A run of slices lost: they are black."""
    full = np.flatnonzero(_any(stack.mask))
    share = DROPPED if dose.intensity is None else dose.intensity
    count = min(len(full), max(1, round(share * len(full))))
    first = int(rng.integers(len(full) - count + 1))
    touched = np.zeros(len(stack.mask), dtype=np.bool_)
    touched[full[first : first + count]] = True
    pixels = np.where(touched[:, None, None, None], np.float32(0), stack.pixels)
    return Anomaly(pixels=pixels, mask=stack.mask, lesion=None, touched=touched)


CATEGORIES: dict[str, Category] = {
    "sphere": Category(scope="local", make=sphere),
    "blob": Category(scope="local", make=blob),
    "contrast": Category(scope="local", make=contrast),
    "embedded": Category(scope="local", make=embedded),
    "shuffle": Category(scope="local", make=shuffle),
    "deformation": Category(scope="global", make=deformation),
    "variant": Category(scope="global", make=variant),
    "degraded": Category(scope="global", make=degraded),
    "dropped": Category(scope="global", make=dropped, needs_stack=True),
}


def _place(
    stack: Stack, rng: np.random.Generator, dose: Dose
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """Radius in pixels, and of every pixel the distance to a drawn middle as of a ball and as of a cube."""
    drawn = rng.uniform(*RADII)
    size = diameter(stack)
    radius = max((drawn if dose.radius is None else dose.radius) * size, SMALLEST_RADIUS)
    allowed = stack.mask if dose.slices is None else stack.mask & dose.slices[:, None, None]
    depth = np.stack([ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1] for plane in allowed])
    candidates = np.argwhere(allowed & (depth >= INNER * depth.max()))
    middle = candidates[int(rng.random() * len(candidates))]
    between = size / max(1, int(_any(stack.mask).sum()))  # Pixels from one slice to the next.
    steps = np.array([between, 1.0, 1.0])
    away = [
        np.abs(axis - centre).astype(np.float32) * np.float32(step)
        for axis, centre, step in zip(
            np.ogrid[tuple(slice(length) for length in stack.mask.shape)], middle, steps, strict=True
        )
    ]
    ball = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
    cube = np.maximum(np.maximum(away[0], away[1]), away[2])
    return radius, ball, cube


def _soft(distance: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """1 in the middle, a half at the radius, 0 outside; smooth."""
    profile: NDArray[np.float32] = 0.5 * (1 - np.tanh((distance - radius) / (EDGE_SHARE * radius)))
    return profile.astype(np.float32)


def _smooth_noise(stack: Stack, rng: np.random.Generator, radius: float) -> NDArray[np.float32]:
    """Noise whose lumps are about half a radius wide, standard deviation 1, alike in all slices."""
    noise = ndimage.gaussian_filter(rng.standard_normal(stack.mask.shape[1:]), radius / 2, mode="nearest")
    scaled: NDArray[np.float32] = (noise / max(float(noise.std()), 1e-9)).astype(np.float32)
    return scaled[None]


def _local(
    stack: Stack,
    profile: NDArray[np.float32],
    target: NDArray[np.float32] | np.float32,
    lesion: NDArray[np.bool_],
) -> Anomaly:
    """The study mixed with a target by a profile, inside the body alone."""
    weight = (profile * stack.mask)[:, None]
    inside = lesion & stack.mask
    return Anomaly(
        pixels=(stack.pixels * (1 - weight) + target * weight).astype(np.float32),
        mask=stack.mask,
        lesion=inside,
        touched=_any(inside),
    )


def _resampled(stack: Stack, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Anomaly:
    """The study read at other places, the same in every slice."""
    at = np.stack([rows, columns])
    pixels = np.stack(
        [[ndimage.map_coordinates(plane, at, order=1) for plane in channels] for channels in stack.pixels]
    )
    mask = np.stack([ndimage.map_coordinates(plane.astype(np.uint8), at, order=0) for plane in stack.mask])
    mask = mask.astype(np.bool_)
    pixels = np.where(mask[:, None], pixels, np.float32(0))
    return Anomaly(pixels=pixels, mask=mask, lesion=None, touched=_any(mask))


def _any(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slices in which anything is set."""
    return np.array([bool(plane.any()) for plane in mask])

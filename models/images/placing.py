"""Preparation steps that move pixels: cropping, turning, mirroring, resizing.

Each keeps the grid, so that a map of the prepared picture finds its way back to the native pixels.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.contract import AlignMidline, CropContent, CropDisc, CropPadding, MirrorLeftEyes, Resize
from models.images.draft import Draft
from models.images.masks import body_mask
from models.images.picture import Grid
from models.images.resampling import resampled

THUMBNAIL = 64  # Pixels of the longer side on which the midline is searched.
ANGLE_STEP = 1.5  # Degrees between tried angles.


def resize(draft: Draft, step: Resize) -> Draft:
    """Bring the picture to the contract's size, averaging over area where it shrinks.

    With ``fit: pad`` the proportions stay and the rest of the frame is left unassessed.
    """
    del step
    rows, columns = draft.contract.size
    height, width = draft.shape
    inner = (rows, columns)
    if draft.contract.fit == "pad":
        scale = min(rows / height, columns / width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
    pixels = np.zeros((*draft.pixels.shape[:2], rows, columns), dtype=np.float32)
    mask = np.zeros((len(draft.mask), rows, columns), dtype=np.bool_)
    here = np.s_[top : top + inner[0], left : left + inner[1]]
    pixels[:, :, here[0], here[1]] = resampled(draft.pixels, inner)
    if draft.mask.all():
        mask[:, here[0], here[1]] = True
    else:
        mask[:, here[0], here[1]] = resampled(draft.mask.astype(np.float32), inner) >= 0.5  # noqa: PLR2004 - half
    by_row, by_column = height / inner[0], width / inner[1]
    grid = np.array(
        [
            [by_row, 0, (0.5 - top) * by_row - 0.5],
            [0, by_column, (0.5 - left) * by_column - 0.5],
            [0, 0, 1],
        ]
    )
    return draft.moved(pixels, mask, grid)


def crop_padding(draft: Draft, step: CropPadding) -> Draft:
    """Cut off black bars added to make a file square.

    The size before padding tells where they are; without it, rows and columns that are black throughout go.
    """
    if draft.original_shape is not None:
        return draft.cut(*padding_box(draft.shape, draft.original_shape))
    return draft.cut(*_box(draft.grey > step.level, 0))


def padding_box(shape: tuple[int, int], original_shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a picture inside the square it was padded to, ends excluded.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the padded, then resized file.
    original_shape : tuple of int
        Rows and columns before padding; the picture lies in the middle.
    """
    longer = max(original_shape)
    rows, columns = (
        max(1, round(length * original / longer))
        for length, original in zip(shape, original_shape, strict=True)
    )
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    return top, top + rows, left, left + columns


def crop_content(draft: Draft, step: CropContent) -> Draft:
    """Cut to the bounding box of the mask with a margin, one box for the stack."""
    return draft.cut(*_box(draft.mask, step.margin))


def align_midline(draft: Draft, step: AlignMidline) -> Draft:
    """Turn a head upright and cut to its box, one angle and one box for the stack.

    The angle is the one at which the head differs least from its mirror image. It is searched on a small
    copy, turned about the middle of the head. At the border of the search the head stays as it is: there
    the least difference is not one of symmetry.
    """
    body = body_mask(draft.grey)
    if not body.any():
        return draft
    angle = _midline_angle(draft.grey * body, body, step.largest_angle)
    if abs(angle) >= step.largest_angle:
        angle = 0.0
    turned = _turn(draft, angle, _middle(body)) if angle else draft
    return turned.cut(*_box(body_mask(turned.grey), step.margin))


def crop_disc(draft: Draft, step: CropDisc) -> Draft:
    """Cut to the square around the lit disc; what lies outside the disc less its rim is not assessed.

    The disc may be cut off above and below by the camera: its radius is half its larger extent.
    """
    lit = draft.pixels.max(axis=1) > step.level
    lit = ndimage.binary_opening(lit, np.ones((1, 3, 3), dtype=np.bool_))
    if not lit.any():
        return draft
    top, bottom, left, right = _box(lit, 0)
    radius = max(bottom - top, right - left) / 2
    row, column = (top + bottom - 1) / 2, (left + right - 1) / 2
    rows, columns = np.ogrid[: draft.shape[0], : draft.shape[1]]
    disc = (rows - row) ** 2 + (columns - column) ** 2 <= (radius * (1 - step.rim)) ** 2
    return replace(draft, mask=draft.mask & disc).cut(top, bottom, left, right)


def mirror_left_eyes(draft: Draft, step: MirrorLeftEyes) -> Draft:
    """Mirror left eyes, so that the optic disc is on the same side in all pictures."""
    del step
    if not draft.is_left_eye:
        return draft
    mirror = np.array([[1.0, 0, 0], [0, -1, draft.shape[1] - 1], [0, 0, 1]])
    return draft.moved(draft.pixels[..., ::-1], draft.mask[..., ::-1], mirror)


def _box(mask: NDArray[np.bool_], margin: float) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of what is set in any slice, ends excluded; the whole frame if nothing is."""
    flat: NDArray[np.bool_] = np.logical_or.reduce(mask, axis=0)
    if not flat.any():
        return 0, flat.shape[0], 0, flat.shape[1]
    rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    extra = round(margin * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
    return (
        max(0, int(rows[0]) - extra),
        min(flat.shape[0], int(rows[-1]) + 1 + extra),
        max(0, int(columns[0]) - extra),
        min(flat.shape[1], int(columns[-1]) + 1 + extra),
    )


def _middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre of mass of a mask over all slices, (row, column)."""
    _, rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def _turning(angle: float, middle: tuple[float, float]) -> Grid:
    """Grid of a picture turned by an angle in degrees about a point."""
    turn = np.deg2rad(angle)
    cosine, sine = np.cos(turn), np.sin(turn)
    row, column = middle
    return np.array(
        [
            [cosine, -sine, row - cosine * row + sine * column],
            [sine, cosine, column - sine * row - cosine * column],
            [0, 0, 1],
        ]
    )


def _turn(draft: Draft, angle: float, middle: tuple[float, float]) -> Draft:
    """The draft turned about a point, linear, same frame."""
    step = _turning(angle, middle)
    pixels = np.stack([[_resample(plane, step) for plane in channels] for channels in draft.pixels])
    mask = np.stack([_resample(plane.astype(np.float32), step) for plane in draft.mask]) >= 0.5  # noqa: PLR2004 - half
    return draft.moved(pixels, mask, step)


def _resample(plane: NDArray[np.float32], step: Grid) -> NDArray[np.float32]:
    turned: NDArray[np.float32] = ndimage.affine_transform(plane, step[:2, :2], step[:2, 2], order=1)
    return turned


def _midline_angle(grey: NDArray[np.float32], body: NDArray[np.bool_], largest: float) -> float:
    """Angle in degrees by which the head must be turned to be most like its mirror image."""
    shrink = min(1.0, THUMBNAIL / max(grey.shape[1:]))
    rows, columns = (max(1, round(length * shrink)) for length in grey.shape[1:])
    # A stack is turned as one, so its mean slice tells the angle.
    small = resampled(grey.mean(axis=0), (rows, columns))
    middle = _middle(body)
    at = ((middle[0] + 0.5) * shrink - 0.5, (middle[1] + 0.5) * shrink - 0.5)
    count = int(largest / ANGLE_STEP)
    angles = np.arange(-count, count + 1) * ANGLE_STEP
    mirror = np.array([[1.0, 0, 0], [0, -1, 2 * at[1]], [0, 0, 1]])
    differences = []
    for angle in angles:
        turned = _resample(small, _turning(float(angle), at))
        differences.append(float(np.abs(turned - _resample(turned, mirror)).sum()))
    return float(angles[int(np.argmin(differences))])

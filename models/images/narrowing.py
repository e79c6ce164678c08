"""Preparation steps that assess less of a picture."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from models.images.contract import ErodeMask, InsideSkull
from models.images.draft import Draft
from models.images.masks import largest_part, otsu_level

ROUNDING = 1e-9  # Of the equations of a hull's edges.


def erode_mask(draft: Draft, step: ErodeMask) -> Draft:
    """Take a rim off the mask. Where the mask runs into the frame there is no rim to take."""
    cross = ndimage.generate_binary_structure(2, 1)[None]
    mask = ndimage.binary_erosion(draft.mask, cross, iterations=step.pixels, border_value=1)
    return replace(draft, mask=mask)


def inside_skull(draft: Draft, step: InsideSkull) -> Draft:
    """Leave the skull and what is outside it unassessed.

    Bone is what is brighter than Otsu's threshold within the mask. The largest part of the rest, opened by
    the rim, is brain; its convex hull takes blood in that is as bright as bone, also where it touches bone.
    A slice in which nothing is found keeps its mask.
    """
    planes = [_inside(grey, mask, step.rim) for grey, mask in zip(draft.grey, draft.mask, strict=True)]
    return replace(draft, mask=np.stack(planes))


def _inside(grey: NDArray[np.float32], mask: NDArray[np.bool_], rim: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    soft = mask & (grey <= otsu_level(grey[mask]))
    width = rim * 2 * float(np.sqrt(mask.sum() / np.pi))
    core = largest_part(ndimage.distance_transform_edt(np.pad(soft, 1))[1:-1, 1:-1] > width)
    points = np.argwhere(core)
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # Nothing, or too little to have an inside.
        return mask
    rows, columns = np.indices(mask.shape)
    inside = mask.copy()
    for down, across, offset in hull.equations:  # Below 0 on the inner side of each edge.
        inside &= down * rows + across * columns + offset <= ROUNDING
    return inside

"""Outlines of a mask along the edges of its pixels."""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]
"""Row and column of a corner: pixel (0, 0) lies between corners (0, 0) and (1, 1)."""

# Steps that keep the mask on the right hand, in the order in which they are tried after each step: where two
# pixels touch at a corner only, the outline turns right and leaves them apart.
_RIGHT_TURN: Final = {(0, 1): (1, 0), (1, 0): (0, -1), (0, -1): (-1, 0), (-1, 0): (0, 1)}


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Closed outlines of all parts of a mask and of their holes, the longest first.

    Parameters
    ----------
    mask : bool, shape (rows, columns)

    Returns
    -------
    list of int64, shape (points, 2)
        Row and column of corners, the first repeated at the end; straight runs have no points between.
    """
    edges = _edges(np.pad(mask, 1))
    loops = []
    while edges:
        start = next(iter(edges))
        loops.append(_walk(edges, start))
    loops.sort(key=lambda loop: (-_length(loop), loop[0]))
    return [np.array(loop, dtype=np.int64) for loop in loops]


def _edges(padded: NDArray[np.bool_]) -> dict[Corner, set[Corner]]:
    """Steps along the border from every corner, the mask on the right; in raster order."""
    inner = padded[1:-1, 1:-1]
    sides = (  # where the neighbour is outside; start corner and step relative to the pixel
        (padded[:-2, 1:-1], (0, 0), (0, 1)),
        (padded[1:-1, 2:], (0, 1), (1, 0)),
        (padded[2:, 1:-1], (1, 1), (0, -1)),
        (padded[1:-1, :-2], (1, 0), (-1, 0)),
    )
    found = [
        (row + start[0], column + start[1], step)
        for neighbour, start, step in sides
        for row, column in np.argwhere(inner & ~neighbour).tolist()
    ]
    edges: dict[Corner, set[Corner]] = {}
    for row, column, step in sorted(found):
        edges.setdefault((row, column), set()).add(step)
    return edges


def _walk(edges: dict[Corner, set[Corner]], start: Corner) -> list[Corner]:
    """Follow the border once around and take its edges out."""
    step = min(edges[start])
    points, place = [start], start
    while True:
        edges[place].remove(step)
        if not edges[place]:
            del edges[place]
        place = (place[0] + step[0], place[1] + step[1])
        if place == start:
            return [*points, start]
        following = edges[place]
        right = _RIGHT_TURN[step]
        turned = right if right in following else min(following)
        if turned != step:
            points.append(place)
        step = turned


def _length(loop: list[Corner]) -> int:
    return sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(loop))

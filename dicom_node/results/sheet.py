"""Frames of the secondary capture, compressed piece by piece (PS3.5 G, RLE).

Rows are compressed one by one, and a run may end anywhere within a row. So what is the same in all frames is
compressed once, a grey panel once for its three colours, and the right panel only where colour lies on it:
an eighth of the work, and the same pixels.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import rle
from numpy.typing import NDArray

from dicom_node.results.canvas import Layout

_PLANES: Final = 3
_HEADER: Final = struct.Struct("<16I")  # number of segments, offset of each from the start of the header


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is the same in all frames, compressed.

    Attributes
    ----------
    margin, gap : bytes
        Left of the left panel, and between the panels.
    tails : tuple of lists of bytes
        Right of the right panel: for each colour every row of the panels.
    feet : tuple of bytes
        Below the panels, for each colour.
    """

    margin: bytes
    gap: bytes
    tails: tuple[list[bytes], ...]
    feet: tuple[bytes, ...]

    @classmethod
    def of(cls, template: NDArray[np.uint8], layout: Layout) -> "Sheet":
        """Compress a template.

        Parameters
        ----------
        template : uint8, shape (layout.height, layout.width, 3)
        layout : Layout
        """
        bottom = layout.top + layout.panel_height
        right = layout.right_panel + layout.panel_width
        return cls(
            margin=rle.rle.encode_row(bytes(layout.margin)),
            gap=rle.rle.encode_row(bytes(layout.right_panel - layout.margin - layout.panel_width)),
            tails=tuple(_rows(template[layout.top : bottom, right:, plane]) for plane in range(_PLANES)),
            feet=tuple(b"".join(_rows(template[bottom:, :, plane])) for plane in range(_PLANES)),
        )

    def compress(
        self,
        title: NDArray[np.uint8],
        left: NDArray[np.uint8],
        right: NDArray[np.uint8],
        is_coloured: NDArray[np.bool_],
    ) -> bytes:
        """One frame.

        Parameters
        ----------
        title : uint8, shape (layout.top, layout.width, 3)
        left : uint8, shape (layout.panel_height, layout.panel_width)
        right : uint8, shape (layout.panel_height, layout.panel_width, 3)
            Read in coloured rows alone; the others are those of the left panel.
        is_coloured : bool, shape (layout.panel_height,)
            Rows of the right panel that differ from the left one.
        """
        grey = _rows(left)
        planes = []
        for plane in range(_PLANES):
            pieces = _rows(title[..., plane])
            for row, same in enumerate(grey):
                piece = _row(right[row, :, plane]) if is_coloured[row] else same
                pieces += (self.margin, same, self.gap, piece, self.tails[plane][row])
            pieces.append(self.feet[plane])
            planes.append(pieces)
        return _assemble(planes)


def _row(values: NDArray[np.uint8]) -> bytes:
    encoded: bytes = rle.rle.encode_row(values.tobytes())
    return encoded


def _rows(values: NDArray[np.uint8]) -> list[bytes]:
    return [_row(row) for row in values]


def _assemble(planes: Iterable[Iterable[bytes]]) -> bytes:
    """Header and segments, each of even length (PS3.5 G.5)."""
    segments = [b"".join(pieces) for pieces in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets, place = [], _HEADER.size
    for segment in segments:
        offsets.append(place)
        place += len(segment)
    unused = [0] * (15 - len(offsets))
    return b"".join((_HEADER.pack(len(segments), *offsets, *unused), *segments))

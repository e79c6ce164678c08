"""Where things stand in a picture: two panels, the colour bar, captions."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.results import codes, heatmap
from models.scores import Scores
from models.volume import Volume

_PANEL_SHORT: Final = 256  # pixels of a panel's shorter side, about
_PANEL_LONG: Final = 512  # and at most of its longer one, about
_WHOLE_ZOOM: Final = 2  # from this enlargement on, every source pixel gets the same whole number of pixels
_MARGIN: Final = 8
_TOP: Final = 24
_BAR_WIDTH: Final = 14
_LABEL_WIDTH: Final = 40
_LINE: Final = 15
_FOOT: Final = 4 * _LINE + _MARGIN
_TITLE_SIZE: Final = 14
_TEXT_SIZE: Final = 11
_WHITE: Final = (235, 235, 235)
_WARNING: Final = (255, 214, 102)
_LETTERS: Final = (("R", "L"), ("A", "P"), ("F", "H"))  # against and along each axis of LPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Sizes of a picture in pixels."""

    panel_height: int
    panel_width: int

    @classmethod
    def of(cls, volume: Volume) -> "Layout":
        """Layout for the slices of a volume: pixels on the screen are square, whatever the source's are."""
        _, rows, columns = volume.voxels.shape
        _, row_mm, column_mm = volume.spacing_mm
        height, width = rows * row_mm, columns * column_mm
        scale = min(_PANEL_SHORT / min(height, width), _PANEL_LONG / max(height, width))  # pixels per mm
        pixel = min(row_mm, column_mm)
        if scale * pixel >= _WHOLE_ZOOM:
            scale = round(scale * pixel) / pixel
        return cls(panel_height=max(1, round(scale * height)), panel_width=max(1, round(scale * width)))

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return _TOP + self.panel_height + _FOOT

    @property
    def width(self) -> int:
        """Columns of a frame."""
        return max(2 * self.panel_width + 4 * _MARGIN + _BAR_WIDTH + _LABEL_WIDTH, 2 * _PANEL_SHORT)

    @property
    def right_panel(self) -> int:
        """First column of the panel with the overlay."""
        return 2 * _MARGIN + self.panel_width

    @property
    def bar(self) -> int:
        """First column of the colour bar."""
        return self.right_panel + self.panel_width + _MARGIN


def paint_template(layout: Layout, scores: Scores, captions: tuple[str, ...]) -> NDArray[np.uint8]:
    """Everything that is the same in all frames.

    Parameters
    ----------
    layout : Layout
    scores : Scores
        Its bands are marked on the colour bar.
    captions : tuple of str
        At most four lines; what is too long for the picture is cut.

    Returns
    -------
    uint8, shape (layout.height, layout.width, 3)
    """
    picture = Image.new("RGB", (layout.width, layout.height))
    pen = ImageDraw.Draw(picture)
    pen.text((_MARGIN, 4), codes.BURNED_IN, fill=_WARNING, font=ImageFont.load_default(_TITLE_SIZE))
    font = ImageFont.load_default(_TEXT_SIZE)
    bar = Image.fromarray(heatmap.colour_bar(layout.panel_height, _BAR_WIDTH))
    picture.paste(bar, (layout.bar, _TOP))
    free = _TOP + layout.panel_height
    marks = [(0.0, "0"), *((band, f"{band:.2f}") for band in scores.bands)]
    for value, label in marks:
        row = _TOP + heatmap.bar_row(min(max(value, 0.0), 1.0), layout.panel_height)
        pen.line([(layout.bar, row), (layout.bar + _BAR_WIDTH + 3, row)], fill=_WHITE)
        free = min(row - _TEXT_SIZE // 2, free - _TEXT_SIZE)  # labels of close bands move up, never overlap
        pen.text((layout.bar + _BAR_WIDTH + 6, free), label, fill=_WHITE, font=font)
    top = _TOP + layout.panel_height + _MARGIN // 2
    for line, caption in enumerate(captions):
        pen.text(
            (_MARGIN, top + line * _LINE),
            _fit(caption, font, layout.width - 2 * _MARGIN),
            fill=_WHITE,
            font=font,
        )
    return np.asarray(picture)


def paint_frame(
    template: NDArray[np.uint8],
    layout: Layout,
    grey: NDArray[np.uint8],
    coloured: NDArray[np.uint8],
    *,
    letters: tuple[str, str],
    counter: str,
) -> NDArray[np.uint8]:
    """Frame of one slice.

    Parameters
    ----------
    template : uint8, shape (layout.height, layout.width, 3)
    layout : Layout
    grey : uint8, shape (layout.panel_height, layout.panel_width)
        Left panel.
    coloured : uint8, shape (layout.panel_height, layout.panel_width, 3)
        Right panel.
    letters : tuple of str
        Side of the patient at the left edge and at the top edge of a panel.
    counter : str
        Which slice this is.
    """
    frame = template.copy()
    rows = slice(_TOP, _TOP + layout.panel_height)
    frame[rows, _MARGIN : _MARGIN + layout.panel_width] = grey[..., np.newaxis]
    frame[rows, layout.right_panel : layout.right_panel + layout.panel_width] = coloured
    picture = Image.fromarray(frame)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_TEXT_SIZE)
    left, top = letters
    for panel in (_MARGIN, layout.right_panel):
        pen.text((panel + 3, _TOP + layout.panel_height // 2), left, fill=_WHITE, font=font, anchor="lm")
        pen.text((panel + layout.panel_width // 2, _TOP + 3), top, fill=_WHITE, font=font, anchor="mt")
    pen.text((layout.width - _MARGIN, 6), counter, fill=_WHITE, font=font, anchor="rt")
    return np.asarray(picture)


def side_letter(direction: NDArray[np.float64]) -> str:
    """Side of the patient that a direction in LPS points to most (PS3.3 C.7.6.1.1.1)."""
    axis = int(np.abs(direction).argmax())
    return _LETTERS[axis][int(direction[axis] > 0)]


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."

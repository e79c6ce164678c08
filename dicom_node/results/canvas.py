"""Where things stand in a picture: two panels, the colour bar, captions, letters."""

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
_SINGLE: Final = 3  # times larger where there is one picture alone, as a radiograph: there is room for it
_SINGLE_WORDS: Final = 2  # and the words so many times
_WHOLE_ZOOM: Final = 2  # from this enlargement on, every source pixel gets the same whole number of pixels
_MARGIN: Final = 8
_TOP: Final = 24
_BAR_WIDTH: Final = 14
_LABEL_WIDTH: Final = 40
_LINE: Final = 15
_TITLE_SIZE: Final = 14
_TEXT_SIZE: Final = 11
_WHITE: Final = (235, 235, 235)
_WARNING: Final = (255, 214, 102)
_LETTERS: Final = (("R", "L"), ("A", "P"), ("F", "H"))  # against and along each axis of LPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Sizes of a picture in pixels.

    Attributes
    ----------
    panel_height, panel_width : int
    zoom : int
        How many times larger than in a stack the words and what stands beside the panels are.
    """

    panel_height: int
    panel_width: int
    zoom: int = 1

    @classmethod
    def of(cls, volume: Volume) -> "Layout":
        """Layout for the slices of a volume: pixels on the screen are square, whatever the source's are."""
        slices, rows, columns = volume.voxels.shape
        _, row_mm, column_mm = volume.spacing_mm
        height, width = rows * row_mm, columns * column_mm
        scale = min(_PANEL_SHORT / min(height, width), _PANEL_LONG / max(height, width))  # pixels per mm
        zoom = 1
        if slices == 1:
            scale *= _SINGLE
            zoom = _SINGLE_WORDS
        pixel = min(row_mm, column_mm)
        if scale * pixel >= _WHOLE_ZOOM:
            scale = round(scale * pixel) / pixel
        return cls(
            panel_height=max(1, round(scale * height)), panel_width=max(1, round(scale * width)), zoom=zoom
        )

    @property
    def margin(self) -> int:
        """Columns beside the panels."""
        return _MARGIN * self.zoom

    @property
    def top(self) -> int:
        """Rows above the panels."""
        return _TOP * self.zoom

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.top + self.panel_height + (4 * _LINE + _MARGIN) * self.zoom

    @property
    def width(self) -> int:
        """Columns of a frame."""
        beside = 4 * _MARGIN + _BAR_WIDTH + _LABEL_WIDTH
        return max(2 * self.panel_width + beside * self.zoom, 2 * _PANEL_SHORT)

    @property
    def right_panel(self) -> int:
        """First column of the panel with the overlay."""
        return 2 * self.margin + self.panel_width

    @property
    def bar(self) -> int:
        """First column of the colour bar."""
        return self.right_panel + self.panel_width + self.margin

    @property
    def bar_width(self) -> int:
        """Columns of the colour bar."""
        return _BAR_WIDTH * self.zoom

    @property
    def font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """Letters of all words but the title."""
        return ImageFont.load_default(_TEXT_SIZE * self.zoom)


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
        The panels are black.
    """
    picture = Image.new("RGB", (layout.width, layout.height))
    pen = ImageDraw.Draw(picture)
    zoom, font = layout.zoom, layout.font
    title = ImageFont.load_default(_TITLE_SIZE * zoom)
    pen.text((layout.margin, 4 * zoom), codes.BURNED_IN, fill=_WARNING, font=title)
    bar = Image.fromarray(heatmap.colour_bar(layout.panel_height, layout.bar_width))
    picture.paste(bar, (layout.bar, layout.top))
    size = _TEXT_SIZE * zoom
    free = layout.top + layout.panel_height
    marks = [(0.0, "0"), *((band, f"{band:.2f}") for band in scores.bands)]
    for value, label in marks:
        row = layout.top + heatmap.bar_row(min(max(value, 0.0), 1.0), layout.panel_height)
        end = layout.bar + layout.bar_width + 3 * zoom
        pen.line([(layout.bar, row), (end, row)], fill=_WHITE)
        free = min(row - size // 2, free - size)  # labels of close bands move up, never overlap
        pen.text((end + 3 * zoom, free), label, fill=_WHITE, font=font)
    top = layout.top + layout.panel_height + layout.margin // 2
    for line, caption in enumerate(captions):
        pen.text(
            (layout.margin, top + line * _LINE * zoom),
            _fit(caption, font, layout.width - 2 * layout.margin),
            fill=_WHITE,
            font=font,
        )
    return np.asarray(picture)


def paint_title(template: NDArray[np.uint8], layout: Layout, counter: str) -> NDArray[np.uint8]:
    """Rows above the panels, with the words that say which slice this is.

    Returns
    -------
    uint8, shape (layout.top, layout.width, 3)
    """
    picture = Image.fromarray(template[: layout.top])
    place = (layout.width - layout.margin, 6 * layout.zoom)
    ImageDraw.Draw(picture).text(place, counter, fill=_WHITE, font=layout.font, anchor="rt")
    return np.asarray(picture)


def paint_letters(layout: Layout, letters: tuple[str, str]) -> NDArray[np.float32]:
    """How much of each pixel of a panel the letters of the patient's sides cover.

    Parameters
    ----------
    layout : Layout
    letters : tuple of str
        Side of the patient at the left edge and at the top edge.

    Returns
    -------
    float32, shape (layout.panel_height, layout.panel_width), 0 to 1
    """
    picture = Image.new("L", (layout.panel_width, layout.panel_height))
    pen = ImageDraw.Draw(picture)
    font = layout.font
    left, top = letters
    pen.text((3, layout.panel_height // 2), left, fill=255, font=font, anchor="lm")
    pen.text((layout.panel_width // 2, 3), top, fill=255, font=font, anchor="mt")
    return np.asarray(picture, dtype=np.float32) / np.float32(255.0)


def write_letters(panel: NDArray[np.uint8], cover: NDArray[np.float32]) -> None:
    """Lay the letters of `paint_letters` over a panel, in place.

    Parameters
    ----------
    panel : uint8, shape (rows, columns) or (rows, columns, 3)
    cover : float32, shape (rows, columns)
    """
    where = np.nonzero(cover)
    share = cover[where] if panel.ndim == cover.ndim else cover[where][:, np.newaxis]
    below = panel[where]
    panel[where] = (below + share * (np.float32(_WHITE[0]) - below)).round()


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

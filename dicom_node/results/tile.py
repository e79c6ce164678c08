"""A picture of words: what a viewer shows that shows no report (PS3.3 A.8.1, A.8.5).

An archive keeps the pictures of earlier scores. Where a later one has none, this one says so among them.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.results import codes
from dicom_node.results.envelope import region

_WIDTH: Final = 640  # pixels
_MARGIN: Final = 24
_TITLE_SIZE: Final = 16
_HEADING_SIZE: Final = 40
_TEXT_SIZE: Final = 18
_GAP: Final = 10
_WHITE: Final = (235, 235, 235)
_WARNING: Final = (255, 214, 102)


def tile_class(shown_as: str | None) -> UID:
    """Class of a picture of words: the one that archives took the earlier pictures in.

    Parameters
    ----------
    shown_as : str or None
        SOP Class of what is superseded.
    """
    if shown_as == SecondaryCaptureImageStorage:
        return SecondaryCaptureImageStorage
    return MultiFrameTrueColorSecondaryCaptureImageStorage


def complete_tile(result: Dataset, source: Dataset, heading: str, words: Sequence[str]) -> Dataset:
    """Make an empty secondary capture a picture of words.

    Parameters
    ----------
    result : Dataset
        With everything but its content; changed in place.
    source : Dataset
        Whose body part and side it repeats.
    heading : str
    words : sequence of str
        Sentences free of identity, a paragraph each.

    Returns
    -------
    Dataset
        The same. It shows nobody, and no number.
    """
    pixels = paint_words(heading, words)
    result.update(region(source))
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.ConversionType = "WSD"
    result.DateOfSecondaryCapture = result.ContentDate
    result.TimeOfSecondaryCapture = result.ContentTime
    result.BurnedInAnnotation = "YES"
    result.RecognizableVisualFeatures = "NO"
    result.DerivationDescription = " ".join([f"{heading}.", *words])[: codes.SHORT_TEXT]
    result.PatientOrientation = []
    result.LossyImageCompression = "00"
    result.SamplesPerPixel = 3
    result.PhotometricInterpretation = "RGB"
    result.PlanarConfiguration = 0
    result.Rows, result.Columns = pixels.shape[:2]
    result.BitsAllocated = 8
    result.BitsStored = 8
    result.HighBit = 7
    result.PixelRepresentation = 0
    if result.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage:
        result.NumberOfFrames = 1
    content = pixels.tobytes()
    result.PixelData = content + b"\0" * (len(content) % 2)
    result["PixelData"].VR = "OB"
    return result


def paint_words(heading: str, words: Sequence[str]) -> NDArray[np.uint8]:
    """Write a heading and paragraphs into a picture as high as they need.

    Returns
    -------
    uint8, shape (rows, 640, 3)
    """
    written = [
        (line, size, colour)
        for text, size, colour in (
            (codes.BURNED_IN, _TITLE_SIZE, _WARNING),
            (heading, _HEADING_SIZE, _WARNING),
            *((paragraph, _TEXT_SIZE, _WHITE) for paragraph in words),
        )
        for line in (*_wrapped(text, ImageFont.load_default(size)), "")
    ]
    heights = [(size if line else 0) + _GAP for line, size, _ in written]
    picture = Image.new("RGB", (_WIDTH, 2 * _MARGIN + sum(heights)))
    pen = ImageDraw.Draw(picture)
    top = _MARGIN
    for (line, size, colour), height in zip(written, heights, strict=True):
        pen.text((_MARGIN, top), line, fill=colour, font=ImageFont.load_default(size))
        top += height
    return np.asarray(picture)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Iterator[str]:
    """Lines of a paragraph that fit the picture."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > _WIDTH - 2 * _MARGIN:
            yield line
            line = word
        else:
            line = longer
    yield line

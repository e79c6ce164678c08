"""Pictures of stored frames, for screens that know no DICOM (PS3.18 8.7.4). Not for diagnosis."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

from dicom_node.errors import UnreadableInstanceError
from dicom_node.header import read_dataset
from dicom_node.pixels import guarded, is_inverted
from dicom_node.web.frames import decode_frame

PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
MOST_PIXELS = 1 << 26  # of one frame that is made a picture
THUMBNAIL = (128, 128)  # columns, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which values are shown from black to white, as the modality counts them (PS3.3 C.11.2)."""

    centre: float
    width: float


def render(
    path: Path, index: int, *, window: Window | None = None, box: tuple[int, int] | None = None
) -> Image.Image:
    """Picture of one frame.

    Parameters
    ----------
    path : Path
    index : int
        From 0.
    window : Window, optional
        Unset: the object's own, or from its least to its largest value.
    box : tuple of int, optional
        Columns and rows it has to fit in; a smaller one is not made larger.

    Returns
    -------
    Image
        Grey, or red, green, blue.

    Raises
    ------
    IndexError
        If there is no such frame.
    UnreadableInstanceError
        If the object has no picture, or one that cannot be decoded.
    """
    dataset = read_dataset(path)
    with guarded(lambda name: UnreadableInstanceError(f"The header states no size ({name}).")):
        rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        frames = int(dataset.get("NumberOfFrames") or 1)
    if not 0 < rows * columns <= MOST_PIXELS:
        raise UnreadableInstanceError("the object has no pixels that make a picture")
    values = decode_frame(path, index, frames, raw=False)
    with guarded(lambda name: UnreadableInstanceError(f"The frame makes no picture ({name}).")):
        picture = Image.fromarray(_shown(dataset, values, index, window))
    if box is not None:
        picture.thumbnail(box)
    return picture


def encode(picture: Image.Image, kind: str, *, quality: int = 90) -> bytes:
    """Bytes of a picture as PNG or JPEG; the quality, 1 to 100, is JPEG's."""
    target = io.BytesIO()
    if kind == PNG:
        picture.save(target, "PNG", compress_level=1)
    else:
        picture.save(target, "JPEG", quality=quality)
    return target.getvalue()


def _shown(
    dataset: FileDataset, values: NDArray[Any], index: int, window: Window | None
) -> NDArray[np.uint8]:
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        colours = apply_color_lut(values, dataset)
        return _to_bytes(colours, 0, np.iinfo(colours.dtype).max)
    if values.ndim == 3:  # noqa: PLR2004 - rows, columns, samples
        return _to_bytes(values, 0, 255 if values.dtype == np.uint8 else int(values.max(initial=1)))
    modal = np.asarray(
        apply_modality_lut(values, _group(dataset, index, "PixelValueTransformationSequence")),
        dtype=np.float64,
    )
    voi = _group(dataset, index, "FrameVOILUTSequence")
    window = window or _own_window(voi)
    if window is not None:  # PS3.3 C.11.2.1.2.1
        low = window.centre - 0.5 - (window.width - 1) / 2
        shown = _to_bytes(modal, low, low + max(window.width - 1, 1e-6))
    else:
        if "VOILUTSequence" in voi and np.issubdtype(values.dtype, np.integer):
            modal = np.asarray(apply_voi_lut(modal.astype(values.dtype), voi), dtype=np.float64)
        shown = _to_bytes(modal, *_finite_range(modal))
    return 255 - shown if is_inverted(dataset) else shown


def _group(dataset: FileDataset, index: int, name: str) -> Dataset:
    """Functional group of a frame: its own, the shared one, else the data set (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    own = per_frame[index].get(name) if index < len(per_frame) else None
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0].get(name)
    items = own or shared
    return items[0] if items else dataset


def _own_window(voi: Dataset) -> Window | None:
    """First window that an object states; None where it states none that shows anything."""
    centres, widths = (np.atleast_1d(voi.get(name) or []) for name in ("WindowCenter", "WindowWidth"))
    if not (centres.size and widths.size):
        return None
    centre, width = float(centres[0]), float(widths[0])
    return Window(centre=centre, width=width) if math.isfinite(centre) and 1 <= width < math.inf else None


def _finite_range(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scale = 255.0 / (high - low) if high > low else 0.0
    with np.errstate(invalid="ignore"):
        scaled = (np.nan_to_num(values.astype(np.float64)) - low) * scale
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)

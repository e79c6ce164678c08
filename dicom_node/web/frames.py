"""Frames of a stored object: as they are stored, or decoded to little endian. One is in memory at a time."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import get_expected_length, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.errors import UnreadableInstanceError
from dicom_node.header import PARSE_ERRORS, refuse_bomb
from dicom_node.pixels import guarded, refuse_larger, samples_of

CHUNK = 1024 * 1024  # bytes in memory at a time
LARGEST_FRAME = 1 << 30  # bytes, whatever a header claims
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # float, double, integers
_UNDEFINED = 0xFFFFFFFF
_WANTED = [
    "TransferSyntaxUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Where the pixels of a file are.

    Attributes
    ----------
    path : Path
    syntax : str
        Transfer syntax UID.
    tag : int
    start, length : int
        Of the value in the file, bytes; the length of an encapsulated one is unknown and 0.
    frames : int
    frame_samples : int
    frame_bits : int
        Of one frame that is not compressed.
    is_encapsulated : bool
    """

    path: Path
    syntax: str
    tag: int
    start: int
    length: int
    frames: int
    frame_samples: int
    frame_bits: int
    is_encapsulated: bool
    _offsets: tuple[bytes, bytes] | None = None

    def stored(self, index: int) -> bytes:
        """Bytes of one frame as they stand in the file; bits of a bitmap begin with its first pixel.

        Parameters
        ----------
        index : int
            From 0.

        Raises
        ------
        IndexError
            If there is no such frame.
        UnreadableInstanceError
            If the file does not hold what it says.
        """
        self._check(index)
        with self.path.open("rb") as file:
            file.seek(self.start)
            if self.is_encapsulated:
                return self._fragments(file, index)
            return self._range(file, index)

    def decoded(self, index: int) -> bytes:
        """Bytes of one frame, decoded, little endian, colour by pixel.

        Raises
        ------
        IndexError
            If there is no such frame.
        UnreadableInstanceError
            If it cannot be decoded here.
        """
        values = self.values(index)
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()

    def values(self, index: int, *, raw: bool = True) -> NDArray[Any]:
        """Values of one frame, as `decode_frame` returns them; raises as `decoded` does."""
        self._check(index)
        with guarded(lambda name: UnreadableInstanceError(f"The frame cannot be decoded ({name}).")):
            if self.frame_bits > 8 * LARGEST_FRAME:
                raise ValueError("the frame is too large")
            if self.is_encapsulated:
                refuse_larger(self.stored(index), samples=self.frame_samples)
            return np.asarray(pixel_array(self.path, index=index, raw=raw))

    @property
    def is_readable_in_place(self) -> bool:
        """Whether stored bytes are plain little endian, or compressed frames: a part of the file."""
        return self.syntax not in {ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}

    def _check(self, index: int) -> None:
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of {self.frames}")

    def _range(self, file: BinaryIO, index: int) -> bytes:
        first = index * self.frame_bits
        last = first + self.frame_bits
        if last > 8 * self.length or self.frame_bits > 8 * LARGEST_FRAME:
            raise UnreadableInstanceError("the pixels are shorter than the header says")
        file.seek(self.start + first // 8)
        content = file.read(-(-last // 8) - first // 8)
        if len(content) < -(-last // 8) - first // 8:
            raise UnreadableInstanceError("the file is cut short")
        if self.frame_bits % 8 == 0:
            return content
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        return np.packbits(bits[first % 8 : first % 8 + self.frame_bits], bitorder="little").tobytes()

    def _fragments(self, file: BinaryIO, index: int) -> bytes:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return bytes(
                    get_frame(file, index, number_of_frames=self.frames, extended_offsets=self._offsets)
                )
        except PARSE_ERRORS as error:
            raise UnreadableInstanceError(f"A frame cannot be found ({type(error).__name__}).") from None


def locate(path: Path) -> Pixels:
    """Where the pixels of a file are.

    Raises
    ------
    UnreadableInstanceError
        If it cannot be parsed, or holds no pixels.
    OSError
        If there is no such file.
    """
    with path.open("rb") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                refuse_bomb(path)
                header = dcmread(file, stop_before_pixels=True, specific_tags=list(_WANTED))
                return _located(path, file, header)
        except PARSE_ERRORS as error:
            raise UnreadableInstanceError(f"The pixels cannot be found ({type(error).__name__}).") from None


def pieces(pixels: Pixels) -> Iterator[bytes]:
    """Value of pixels that are not encapsulated, in pieces.

    Raises
    ------
    UnreadableInstanceError
        If the file is cut short.
    """
    left = pixels.length
    with pixels.path.open("rb") as file:
        file.seek(pixels.start)
        while left:
            piece = file.read(min(left, CHUNK))
            if not piece:
                raise UnreadableInstanceError("the file is cut short")
            left -= len(piece)
            yield piece


def decode_frame(path: Path, index: int, frames: int, *, raw: bool = True) -> NDArray[Any]:
    """Values of one frame, shape (rows, columns) or (rows, columns, samples).

    Parameters
    ----------
    path : Path
    index : int
        From 0.
    frames : int
        How many there are.
    raw : bool
        As stored; else colours are made red, green, blue.

    Raises
    ------
    IndexError
        If there is no such frame.
    UnreadableInstanceError
        If it cannot be decoded here.
    """
    if not 0 <= index < frames:
        raise IndexError(f"frame {index} of {frames}")
    return locate(path).values(index, raw=raw)


def _located(path: Path, file: BinaryIO, header: FileDataset) -> Pixels:
    syntax = str(header.file_meta.TransferSyntaxUID)
    frames = int(header.get("NumberOfFrames") or 1)
    if "Rows" not in header or frames < 1:
        raise UnreadableInstanceError("the object has no pixels")
    if syntax == DeflatedExplicitVRLittleEndian:  # what stands in the file is no place of a pixel
        tag, start, length = PIXEL_TAGS[-1], 0, 0
    else:
        tag, start, length = _element(file, syntax)
    offsets = None
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    return Pixels(
        path=path,
        syntax=syntax,
        tag=tag,
        start=start,
        length=0 if length == _UNDEFINED else length,
        frames=frames,
        frame_samples=samples_of(header),
        frame_bits=_bits(header, frames),
        is_encapsulated=length == _UNDEFINED,
        _offsets=offsets,
    )


def _element(file: BinaryIO, syntax: str) -> tuple[int, int, int]:
    """Tag, start and length of the element that begins here."""
    order = "big" if syntax == ExplicitVRBigEndian else "little"
    head = file.read(8)
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)  # type: ignore[arg-type]
    if tag not in PIXEL_TAGS:
        raise UnreadableInstanceError("the object has no pixels")
    is_implicit = syntax == ImplicitVRLittleEndian
    length = head[4:] if is_implicit else file.read(4)
    return tag, file.tell(), int.from_bytes(length, order)  # type: ignore[arg-type]


def _bits(header: FileDataset, frames: int) -> int:
    if header.BitsAllocated == 1:
        return samples_of(header)
    return 8 * int(get_expected_length(header, unit="bytes")) // frames

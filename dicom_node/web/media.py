"""What a caller accepts, and multipart/related on the way out (PS3.18 8.7, RFC 9110 12.5.1)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.multipart import DICOM_TYPE

OCTETS: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
ANYTHING: Final = "*/*"
ANY_SYNTAX: Final = "*"
MOST_RANGES = 50  # of one Accept header; nobody honest names more

# What the bytes of one stored frame are (PS3.18 table 8.7.3-5).
FRAME_TYPES: Final = {
    JPEGBaseline8Bit: "image/jpeg",
    JPEGExtended12Bit: "image/jpeg",
    JPEGLossless: "image/jpeg",
    JPEGLosslessSV1: "image/jpeg",
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    JPEG2000MCLossless: "image/jpx",
    JPEG2000MC: "image/jpx",
    HTJ2KLossless: "image/jphc",
    HTJ2KLosslessRPCL: "image/jphc",
    HTJ2K: "image/jphc",
    RLELossless: "image/dicom-rle",
}
# Where a frame has the same bytes: little endian, nothing around it.
PLAIN: Final = frozenset({"", ImplicitVRLittleEndian, ExplicitVRLittleEndian})

_PARAMETER = re.compile(r';\s*([A-Za-z0-9-]+)\s*=\s*(?:"([^"]*)"|([^;,\s]*))')
_RANGE = re.compile(r'\s*([A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+)((?:[^,"]|"[^"]*")*)(?:,|$)')


class NotAcceptableError(Exception):
    """The caller accepts nothing that can be had. Ask for ``transfer-syntax=*``: as it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One thing a caller accepts.

    Attributes
    ----------
    kind : str
        Media type of a part where parts are asked for, else of the whole; lower case.
    is_multipart : bool
    syntax : str
        Transfer syntax UID, ``*``, or empty where unstated.
    quality : float
        0 to 1, higher is liked better.
    """

    kind: str
    is_multipart: bool = False
    syntax: str = ""
    quality: float = 1.0

    def takes(self, kind: str) -> bool:
        """Whether a media type is within this range."""
        family = self.kind.partition("/")[0]
        return self.kind in {kind, ANYTHING} or self.kind == f"{family}/*" == f"{kind.partition('/')[0]}/*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a message.

    Attributes
    ----------
    kind : str
        Its Content-Type.
    content : iterable of bytes
    location : str
        Its Content-Location; empty for none.
    """

    kind: str
    content: Iterable[bytes] = field(repr=False)
    location: str = ""


def accepted(header: str) -> tuple[Range, ...]:
    """Ranges of an Accept header, liked best first; one that says nothing takes anything.

    Parameters
    ----------
    header : str
        Text of a stranger; what cannot be read in it is left out.
    """
    ranges = []
    for match in list(_RANGE.finditer(header))[:MOST_RANGES]:
        found = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(match.group(2))}
        kind = match.group(1).lower()
        is_multipart = kind == MULTIPART
        ranges.append(
            Range(
                kind=found.get("type", ANYTHING).lower() if is_multipart else kind,
                is_multipart=is_multipart,
                syntax=found.get("transfer-syntax", ""),
                quality=_quality(found.get("q", "1")),
            )
        )
    liked = sorted((one for one in ranges if one.quality > 0), key=lambda one: -one.quality)
    return tuple(liked) if header.strip() else (Range(kind=ANYTHING),)


def choose(ranges: Iterable[Range], offered: Iterable[str]) -> str:
    """First offered media type that the caller likes best.

    Raises
    ------
    NotAcceptableError
        If none is accepted.
    """
    offers = tuple(offered)
    for one in ranges:
        for kind in offers:
            if not one.is_multipart and one.takes(kind):
                return kind
    raise NotAcceptableError(NotAcceptableError.__doc__)


def choose_instances(ranges: Iterable[Range], syntaxes: Iterable[str], *, is_single: bool) -> Range:
    """Range that whole instances, as they are stored, are in (PS3.18 8.7.2).

    Parameters
    ----------
    ranges : iterable of Range
    syntaxes : iterable of str
        Transfer syntaxes of the instances.
    is_single : bool
        One instance: it may come without a multipart message around it.

    Raises
    ------
    NotAcceptableError
        If none is accepted.
    """
    held = set(syntaxes)
    for one in ranges:
        is_fitting = one.is_multipart or one.kind == ANYTHING or is_single
        if is_fitting and one.takes(DICOM_TYPE) and (one.syntax in {"", ANY_SYNTAX} or held <= {one.syntax}):
            return one
    raise NotAcceptableError(NotAcceptableError.__doc__)


def choose_frames(ranges: Iterable[Range], stored: str, *, is_single: bool) -> tuple[Range, bool]:
    """Range that frames are in, and whether they have to be decoded for it (PS3.18 8.7.3).

    Parameters
    ----------
    ranges : iterable of Range
    stored : str
        Transfer syntax of the instance.
    is_single : bool
        One frame.

    Raises
    ------
    NotAcceptableError
        If none is accepted.
    """
    compressed = FRAME_TYPES.get(stored)  # type: ignore[call-overload]
    for one in ranges:
        if not (one.is_multipart or one.kind == ANYTHING or is_single):
            continue
        if one.syntax in {ANY_SYNTAX, stored} and one.takes(OCTETS):
            return one, False
        if compressed and one.takes(compressed) and one.syntax in {"", ANY_SYNTAX, stored}:
            return one, False
        if one.takes(OCTETS) and one.syntax in PLAIN:
            return one, stored not in PLAIN
    raise NotAcceptableError(NotAcceptableError.__doc__)


def multipart_type(kind: str, boundary: str) -> str:
    """Content-Type of a message of parts."""
    return f'{MULTIPART}; type="{kind.partition(";")[0]}"; boundary={boundary}'


def multipart(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    """Bytes of a message, a piece at a time; its last delimiter says that it is whole."""
    for part in parts:
        location = f"Content-Location: {part.location}\r\n" if part.location else ""
        yield f"--{boundary}\r\nContent-Type: {part.kind}\r\n{location}\r\n".encode()
        yield from part.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0

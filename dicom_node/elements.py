"""Data elements walked within fixed limits of memory and time, and never trusted.

A sender decides what a data set claims, so pydicom's general parser is not used on the receiving side: this
one walks the top level by seeking, keeps only short values of the attributes asked for, and stops early.
"""

import io
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from dicom_node.errors import UnreadableInstanceError

PREAMBLE = 128
PREFIX = b"DICM"
META_GROUP = b"\x02\x00"

LONGEST_VALUE = 16 * 1024  # bytes kept of one attribute
LONGEST_TEXT = 512  # characters of one value: no index of a database takes more than some 2,700 bytes
MOST_ELEMENTS = 200_000  # walked before a data set counts as hostile
DEEPEST = 64  # sequences inside sequences
MOST_INFLATED = 4 * 1024 * 1024  # bytes of a deflated data set looked at
INFLATE_STEP = 64 * 1024

_UNDEFINED = 0xFFFFFFFF
_ENDS = (0xFFFEE00D, 0xFFFEE0DD)  # of an item, of a sequence
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
SHORT_VRS = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
     b"SS", b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip


def read_file_meta(file: BinaryIO) -> dict[int, bytes]:
    """File meta information (PS3.10 section 7.1); leaves the file at the first byte of the data set.

    Raises
    ------
    UnreadableInstanceError
        If the file is no Part 10 file.
    """
    file.seek(0)
    if file.read(PREAMBLE + 4)[PREAMBLE:] != PREFIX:
        raise UnreadableInstanceError("the file has no DICOM prefix")
    meta: dict[int, bytes] = {}
    walker = _Walker(file, is_implicit=False, order="<")
    start = file.tell()
    # Only the group is looked at here: what follows the meta information may be encoded otherwise.
    while file.read(2) == META_GROUP:
        file.seek(-2, io.SEEK_CUR)
        element = walker.next_element()
        if element is None or element.length == _UNDEFINED:
            raise UnreadableInstanceError("the file meta information is malformed")
        meta[element.tag] = walker.take(element)
        start = file.tell()
    file.seek(start)
    return meta


def scan(file: BinaryIO, transfer_syntax_uid: str, wanted: Collection[int]) -> dict[int, bytes]:
    """Raw values of top-level attributes of the data set that begins at the file's position.

    Parameters
    ----------
    file : BinaryIO
        Seekable.
    transfer_syntax_uid : str
    wanted : collection of int
        Tags. Values longer than `LONGEST_VALUE` are left out.

    Raises
    ------
    UnreadableInstanceError
        If the elements do not follow each other as PS3.5 section 7 says, up to the last one wanted.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        file = _inflated_head(file)
    walker = _Walker(
        file,
        is_implicit=_is_implicit(file),
        order=">" if transfer_syntax_uid == ExplicitVRBigEndian else "<",
    )
    found: dict[int, bytes] = {}
    last = max(wanted)
    while (element := walker.next_element()) is not None and element.tag <= last:
        start = file.tell()
        if element.tag in wanted and element.length != _UNDEFINED:
            found[element.tag] = walker.take(element)
        else:
            walker.skip(element)
            length = file.tell() - start
            if element.tag in wanted and length <= LONGEST_VALUE:
                file.seek(start)
                found[element.tag] = file.read(length)
    return found


def text_of(found: dict[int, bytes], tag: int) -> str:
    """Value in the default character set, without padding; empty where it was not found.

    A zero inside it becomes a space, and what is far too long is cut: no database takes either, and a study
    must not be left out for it.
    """
    return found.get(tag, b"").decode("ascii", "replace").replace("\0", " ").strip(" ")[:LONGEST_TEXT]


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    length: int
    is_implicit: bool  # how the items inside a value of undefined length are encoded


class _Walker:
    """Steps from element to element by their lengths; never recurses and never reads a long value."""

    def __init__(self, file: BinaryIO, *, is_implicit: bool, order: str) -> None:
        self._file = file
        self._is_implicit = is_implicit
        self._tag = struct.Struct(order + "HH")
        self._short = struct.Struct(order + "H")
        self._long = struct.Struct(order + "L")
        self._left = MOST_ELEMENTS
        start = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def next_element(self, *, is_implicit: bool | None = None) -> _Element | None:
        """Header of the next element; None at the end of the file."""
        implicit = self._is_implicit if is_implicit is None else is_implicit
        head = self._file.read(8)
        if not head:
            return None
        if len(head) < 8:  # noqa: PLR2004 - tag, and length or VR
            raise UnreadableInstanceError("the data set ends inside an element")
        self._left -= 1
        if not self._left:
            raise UnreadableInstanceError("the data set has too many elements before its keys")
        group, number = self._tag.unpack_from(head)
        tag = group << 16 | number
        if implicit or group == 0xFFFE:  # noqa: PLR2004 - items carry no VR (PS3.5 7.5)
            return _Element(tag, self._long.unpack_from(head, 4)[0], implicit)
        vr = head[4:6]
        if vr in SHORT_VRS:
            return _Element(tag, self._short.unpack_from(head, 6)[0], implicit)
        if vr not in LONG_VRS:
            raise UnreadableInstanceError("an element has no known value representation")
        length = self._long.unpack(self._exactly(4))[0]
        # An unknown sequence is encoded implicitly whatever surrounds it (PS3.5 6.2.2 note 4).
        return _Element(tag, length, implicit or vr == b"UN")

    def take(self, element: _Element) -> bytes:
        """Value of an element of defined length; empty if it is longer than anyone asks for."""
        if element.length > LONGEST_VALUE:
            self.skip(element)
            return b""
        return self._exactly(element.length)

    def skip(self, element: _Element) -> None:
        """Go past a value, with all that is nested in it."""
        if element.length != _UNDEFINED:
            self._pass(element.length)
            return
        inside = [("sequence", element.is_implicit)]
        while inside:
            if len(inside) > DEEPEST:
                raise UnreadableInstanceError("sequences are nested too deeply")
            level, is_implicit = inside[-1]
            nested = self.next_element(is_implicit=is_implicit)
            if nested is None:
                raise UnreadableInstanceError("the data set ends inside a sequence")
            if nested.tag in _ENDS:
                inside.pop()
            elif nested.length != _UNDEFINED:
                self._pass(nested.length)
            elif level == "sequence":
                inside.append(("item", is_implicit))
            else:
                inside.append(("sequence", nested.is_implicit))

    def _pass(self, length: int) -> None:
        if self._file.tell() + length > self._end:
            raise UnreadableInstanceError("an element is longer than the data set")
        self._file.seek(length, io.SEEK_CUR)

    def _exactly(self, length: int) -> bytes:
        value = self._file.read(length)
        if len(value) < length:
            raise UnreadableInstanceError("the data set ends inside an element")
        return value


def _is_implicit(file: BinaryIO) -> bool:
    """Whether the first element carries no VR: some senders announce the other encoding."""
    head = file.read(6)
    file.seek(-len(head), io.SEEK_CUR)
    return head[4:6] not in SHORT_VRS | LONG_VRS


def _inflated_head(file: BinaryIO) -> BinaryIO:
    """First bytes of a deflated data set, never more than `MOST_INFLATED`."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = bytearray()
    try:
        while len(head) < MOST_INFLATED and not inflater.eof:
            packed = inflater.unconsumed_tail or file.read(INFLATE_STEP)
            if not packed:
                break
            head += inflater.decompress(packed, MOST_INFLATED - len(head))
    except zlib.error as error:
        raise UnreadableInstanceError("the deflated data set cannot be inflated") from error
    return io.BytesIO(bytes(head))

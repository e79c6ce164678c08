"""The few attributes the receiver and the intake need, read within fixed limits of memory and time.

A sender decides what a data set claims, so pydicom's general parser is not used here: this one walks the top
level by seeking, keeps only short values of the attributes asked for, and stops before the pixels.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import TEXT_VR_DELIMS

from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import is_own_mark, is_uid

PREAMBLE = 128
PREFIX = b"DICM"
META_GROUP = b"\x02\x00"

MEDIA_SOP_CLASS_UID = 0x00020002
MEDIA_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010
SOURCE_AET = 0x00020016
CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
MANUFACTURER = 0x00080070
CODING_SCHEMES = 0x00080110
STUDY_DESCRIPTION = 0x00081030
SERIES_DESCRIPTION = 0x0008103E
MODEL_NAME = 0x00081090
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E

KEYS = (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID)
WANTED = (
    CHARACTER_SET, MODALITY, MANUFACTURER, CODING_SCHEMES, STUDY_DESCRIPTION, SERIES_DESCRIPTION,
    MODEL_NAME, SERIES_UID, *KEYS,
)  # fmt: skip

LONGEST_VALUE = 16 * 1024  # bytes kept of one attribute
MOST_ELEMENTS = 200_000  # walked before a data set counts as hostile
DEEPEST = 64  # sequences inside sequences
MOST_INFLATED = 4 * 1024 * 1024  # bytes of a deflated data set looked at
INFLATE_STEP = 64 * 1024

_UNDEFINED = 0xFFFFFFFF
_ENDS = (0xFFFEE00D, 0xFFFEE0DD)  # of an item, of a sequence
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_VRS = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
     b"SS", b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What identifies an instance: its class, its own UID and its study's."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedHeader:
    """What the intake stores of one instance. The UIDs never leave the process.

    Attributes
    ----------
    study_uid, series_uid, sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
    modality, study_description, series_description, manufacturer : str
        Empty where unstated.
    is_own : bool
        One of Vigil's results, come back.
    sender : str
        AE title that sent it to us, from (0002,0016).
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    study_description: str
    series_description: str
    manufacturer: str
    is_own: bool
    sender: str


def read_header(path: Path) -> ReceivedHeader:
    """Header of a spooled instance.

    Raises
    ------
    UnreadableInstanceError
        If the file is no Part 10 file, or its data set cannot be walked.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        meta = read_file_meta(file)
        syntax = text_of(meta, TRANSFER_SYNTAX_UID)
        found = scan(file, syntax, WANTED)
    encodings = _encodings(found.get(CHARACTER_SET, b""))
    return ReceivedHeader(
        study_uid=text_of(found, STUDY_UID),
        series_uid=text_of(found, SERIES_UID),
        sop_class_uid=text_of(found, SOP_CLASS_UID),
        sop_instance_uid=text_of(found, SOP_INSTANCE_UID),
        transfer_syntax_uid=syntax,
        modality=text_of(found, MODALITY).upper(),
        study_description=_prose(found, STUDY_DESCRIPTION, encodings),
        series_description=_prose(found, SERIES_DESCRIPTION, encodings),
        manufacturer=_prose(found, MANUFACTURER, encodings),
        is_own=is_own_mark(
            manufacturer=text_of(found, MANUFACTURER),
            model_name=text_of(found, MODEL_NAME),
            schemes=tuple(_designators(found.get(CODING_SCHEMES, b""))),
        ),
        sender=text_of(meta, SOURCE_AET),
    )


def read_keys(file: BinaryIO, transfer_syntax_uid: str) -> Keys:
    """Keys of the data set that begins at the file's position.

    Raises
    ------
    UnreadableInstanceError
        If the data set cannot be walked, or lacks a key that is a proper UID.
    """
    found = scan(file, transfer_syntax_uid, KEYS)
    keys = [text_of(found, tag) for tag in KEYS]
    if not all(is_uid(key) for key in keys):
        raise UnreadableInstanceError("SOP class, SOP instance or study UID is missing or malformed")
    return Keys(sop_class_uid=keys[0], sop_instance_uid=keys[1], study_uid=keys[2])


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
        is_implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
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
        if vr in _SHORT_VRS:
            return _Element(tag, self._short.unpack_from(head, 6)[0], implicit)
        if vr not in _LONG_VRS:
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


def text_of(found: dict[int, bytes], tag: int) -> str:
    """Value in the default character set, without padding; empty where it was not found."""
    return found.get(tag, b"").decode("ascii", "replace").strip("\0 ")


def _prose(found: dict[int, bytes], tag: int, encodings: list[str]) -> str:
    """Value in the data set's character set, on one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be decoded is replaced; the data set is not ours
        text = decode_bytes(found.get(tag, b""), encodings, TEXT_VR_DELIMS)
    return _NOT_PRINTED.sub(" ", text).strip()


def _encodings(value: bytes) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return convert_encodings([part.strip() for part in value.decode("ascii", "replace").split("\\")])
        except (LookupError, ValueError):
            return ["iso8859"]


def _designators(items: bytes) -> list[str]:
    """Coding scheme designators among the raw items of (0008,0110).

    Every VR of the sequence's short attributes is text, so a search between the delimiters of the element
    (0008,0102) is exact enough: what follows the eight bytes of its header, up to its length.
    """
    return [
        match.group(1).decode("ascii", "replace").strip("\0 ")
        for match in re.finditer(rb"\x08\x00\x02\x01(?:SH)?[\x00-\x10]\x00(?:\x00\x00)?([ -~]{1,16})", items)
    ]

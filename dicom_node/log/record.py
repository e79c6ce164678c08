"""One record: a page that says what it is, then the Part 10 file, then zeros up to a whole page."""

import struct
import zlib
from dataclasses import dataclass

from dicom_node.receiving.block import PAGE, Block

MAGIC = b"VIGILLOG"
VERSION = 1
GENERATION_BYTES = 16
# magic, version, generation, length, received (ns), CRC of the file, study key, file name, syntax, sender
_FIELDS = struct.Struct("<8sH16sQQL20s36s64s16s")
_CHECK = struct.Struct("<L")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a record says about its instance.

    Attributes
    ----------
    study_key, file_name : str
        Where the spool will have it.
    received_ns : int
    syntax, sender : str
        Transfer syntax UID and calling AE title.
    length : int
        Bytes of the Part 10 file.
    checksum : int
        CRC-32 of the Part 10 file.
    """

    study_key: str
    file_name: str
    received_ns: int
    syntax: str
    sender: str
    length: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes in the segment."""
        return record_size(self.length)


def record_size(length: int) -> int:
    """Bytes that a Part 10 file of so many takes in a segment."""
    return PAGE + -(-length // PAGE) * PAGE


def marker(generation: bytes) -> bytes:
    """First bytes of every record of a segment's present life, and of no other."""
    return MAGIC + struct.pack("<H", VERSION) + generation


def put_head(block: Block, record: Record, generation: bytes) -> None:
    """Write the record page of a block."""
    fields = _FIELDS.pack(
        MAGIC,
        VERSION,
        generation,
        record.length,
        record.received_ns,
        record.checksum,
        record.study_key.encode(),
        record.file_name.encode(),
        record.syntax.encode(),
        record.sender.encode("ascii", "replace"),
    )
    block.view[: _FIELDS.size] = fields
    _CHECK.pack_into(block.view, _FIELDS.size, zlib.crc32(fields))


def read_head(page: memoryview, generation: bytes) -> Record | None:
    """Record whose page this is; None where it is none of this life of the segment."""
    fields = page[: _FIELDS.size]
    magic, version, born, length, received, checksum, key, name, syntax, sender = _FIELDS.unpack(fields)
    if (magic, version, born) != (MAGIC, VERSION, generation):
        return None
    if _CHECK.unpack_from(page, _FIELDS.size)[0] != zlib.crc32(fields):
        return None
    return Record(
        study_key=key.decode(),
        file_name=name.rstrip(b"\0").decode(),
        received_ns=received,
        syntax=syntax.rstrip(b"\0").decode(),
        sender=sender.rstrip(b"\0").decode(),
        length=length,
        checksum=checksum,
    )

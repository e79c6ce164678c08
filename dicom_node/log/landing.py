"""The receiver's side of the log: one durable write an instance."""

import errno
import os
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass

import structlog

from dicom_node.draft import full_disk_told
from dicom_node.errors import SpoolFullError
from dicom_node.identity import instance_file_name
from dicom_node.keys import Keys
from dicom_node.landing import Origin
from dicom_node.log.record import Record, put_head, record_size
from dicom_node.log.segments import Segment, Segments, open_segment
from dicom_node.receiving.block import Block
from dicom_node.spool import Spool, StoreKind, StoreOutcome

REST_S = 0.25  # without a record for so long, a segment is handed to the keeper
LONGEST_S = 5.0  # and after so long in any case

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Open:
    segment: Segment
    descriptor: int
    end: int = 0
    writers: int = 0
    is_closing: bool = False


class LogLanding:
    """First home of instances in a log that one keeper turns into files of the spool.

    Whether an instance is new, a copy or a conflict is found by the keeper; each is answered with success.

    Parameters
    ----------
    spool : Spool
    segments : Segments
    owner : str
        Names this receiver among those that share the segments.
    """

    def __init__(self, spool: Spool, segments: Segments, *, owner: str) -> None:
        self.spool = spool
        self._segments = segments
        self._owner = owner
        self._open: _Open | None = None
        self._next: _Open | None = None
        self._unsealed: list[_Open] = []
        self._last_record = 0.0
        self._lock = threading.Lock()
        self._taking = threading.Lock()  # of the next segment; taken behind the other lock or alone
        self._is_closed = False
        self._look = threading.Event()
        self._watch = threading.Thread(target=self._watch_over, name="log", daemon=True)
        self._watch.start()

    def has_room(self) -> bool:
        """Whether free space is above the mark; a full log says so when it is written to."""
        return self.spool.has_room()

    def keep(self, block: Block, keys: Keys, origin: Origin) -> StoreOutcome:
        """Write one record; as `Landing.keep`."""
        length = len(block.file)
        key = self.spool.key_of(keys.study_uid)
        record = Record(
            study_key=key,
            file_name=instance_file_name(keys.sop_instance_uid),
            received_ns=time.time_ns(),
            syntax=origin.syntax,
            sender=origin.sender,
            length=length,
            checksum=zlib.crc32(block.file),
        )
        with full_disk_told():
            target, at = self._reserve(record_size(length))
            try:
                put_head(block, record, target.segment.generation)
                _write(target.descriptor, block.padded(0), at)
            finally:
                self._release(target)
        return StoreOutcome(
            kind=StoreKind.STORED, study_key=key, path=self.spool.path_of(key, record.file_name)
        )

    def close(self) -> None:
        """Hand everything to the keeper. Nothing may be kept afterwards."""
        self._is_closed = True
        self._look.set()
        self._watch.join()
        with self._lock:
            self._retire()
            if self._next is not None:
                os.close(self._next.descriptor)
                self._segments.recycle(self._next.segment)
                self._next = None

    def _reserve(self, size: int) -> tuple[_Open, int]:
        with self._lock:
            if self._open is not None and self._open.end + size > self._segments.segment_bytes:
                self._retire()
            if self._open is None:
                if size > self._segments.segment_bytes:
                    raise SpoolFullError("The log's segments are too small.")
                with self._taking:
                    self._next = opened = self._next or self._take()
                    opened.segment = self._segments.begin(opened.segment)
                    self._open, self._next = opened, None
                self._look.set()  # for the one after it
            target = self._open
            at = target.end
            target.end += size
            target.writers += 1
            return target, at

    def _release(self, target: _Open) -> None:
        with self._lock:
            target.writers -= 1
            self._last_record = time.monotonic()
            if target.is_closing and not target.writers:
                self._seal(target)

    def _retire(self) -> None:
        """Write no more to the segment; it is handed over when its last record is written. Lock held."""
        target, self._open = self._open, None
        if target is not None:
            target.is_closing = True
            if not target.writers:
                self._seal(target)

    def _seal(self, target: _Open) -> None:
        """Hand a segment over. Lock held. Where the disk refuses the rename, the watch tries again."""
        try:
            self._segments.seal(target.segment, target.end)
        except OSError as error:
            log.warning("segment not handed over yet", error=type(error).__name__)
            self._unsealed.append(target)
        else:
            os.close(target.descriptor)

    def _take(self) -> _Open:
        segment = self._segments.take(self._owner)
        return _Open(segment, open_segment(segment.path))

    def _watch_over(self) -> None:
        """Have the next segment ready, and hand over one that rests."""
        while not self._is_closed:
            with self._taking, suppress(SpoolFullError, OSError):  # whoever needs one will be told
                self._next = self._next or self._take()
            self._look.wait(REST_S)
            self._look.clear()
            with self._lock:
                refused, self._unsealed = self._unsealed, []
                for segment in refused:
                    self._seal(segment)
                target = self._open
                if target is None or target.writers:
                    continue
                age = abs(time.time_ns() - target.segment.begun_ns) / 1e9  # the clock may be set
                if time.monotonic() - self._last_record > REST_S or age > LONGEST_S:
                    self._retire()


def _write(descriptor: int, data: memoryview, at: int) -> None:
    written = os.pwrite(descriptor, data, at)
    if written != len(data):  # within an allocated file this is a failing disk
        raise OSError(errno.EIO, "record not written whole")

"""From records of the log to files of the spool, in the order of receipt; after a crash the same.

A segment is used again when all its instances are files, durable with their names. Until then its records
stay, so a keeper may die at any point and begin again: a file that stands already is a copy of its record.
"""

import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import structlog

from dicom_node.draft import Draft
from dicom_node.errors import DicomNodeError
from dicom_node.handlers import Counters
from dicom_node.log.landing import LONGEST_S
from dicom_node.log.record import Record, marker, read_head
from dicom_node.log.segments import Segment, Segments
from dicom_node.receiving.block import CAPACITY, PAGE, Block
from dicom_node.spool import Spool, StoreKind

BATCH = 200  # files that are synced together
STEP_S = 0.1
PAUSE_S = 5.0  # after the disk refused
_SEARCH = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Keeper:
    """The one process, or thread, that empties the log.

    Attributes
    ----------
    spool : Spool
    segments : Segments
    counters : Counters
        How many records became files, and how many were copies or conflicts.
    """

    spool: Spool
    segments: Segments
    counters: Counters = field(default_factory=Counters)

    def run(self, stop: threading.Event) -> None:
        """Empty the log whenever a burst is over or it runs low, until `stop` is set."""
        while not stop.wait(STEP_S):
            try:
                self.step()
            except (DicomNodeError, OSError) as error:
                log.warning("log not emptied", error=type(error).__name__)
                stop.wait(PAUSE_S)
            except Exception:  # a keeper that ends lets acknowledged studies lie without a word
                log.exception("log not emptied")
                stop.wait(PAUSE_S)

    def recover(self) -> int:
        """Turn everything that dead receivers left into files; return how many segments.

        Called before any receiver runs.
        """
        self.segments.abandon()
        return self.empty()

    def step(self) -> None:
        """Turn into files what should not wait."""
        if self.segments.is_at_rest():
            self.empty()
        else:
            self._empty_each(segment for segment in self.segments.sealed() if self._is_due(segment))

    def empty(self) -> int:
        """Turn every sealed segment into files; return how many.

        Raises
        ------
        Exception
            If one or more could not be; the others are files.
        """
        waiting = self.segments.sealed()
        self._empty_each(waiting)
        return len(waiting)

    def _is_due(self, segment: Segment) -> bool:
        """Whether a segment should not wait for the end of the burst."""
        is_old = abs(time.time_ns() - segment.begun_ns) > 2 * LONGEST_S * 1e9  # or the clock was set
        return is_old or self.segments.is_low()

    def _empty_each(self, segments: Iterable[Segment]) -> None:
        failed: Exception | None = None
        for segment in segments:
            try:
                self._empty(segment)
            except Exception as error:  # noqa: BLE001 - one bad segment must not fill the log; raised below
                failed = error
        if failed is not None:
            raise failed

    def _empty(self, segment: Segment) -> None:
        block = Block()
        damaged = 0
        with _Reader(segment, block) as reader, ExitStack() as stack:
            batch: list[tuple[Draft, Record]] = []
            for record in reader.records():
                draft = stack.enter_context(self.spool.draft())
                draft.write_block(block)
                os.utime(draft.descriptor, ns=(record.received_ns, record.received_ns))
                batch.append((draft, record))
                if len(batch) >= BATCH:
                    self._place(batch)
                    batch.clear()
                    stack.close()
            self._place(batch)
            damaged = reader.damaged
        if damaged and segment.is_whole:
            log.error("records of the log are damaged; the segment is put by", count=damaged)
            self.segments.put_by(segment)
        else:
            self.segments.recycle(segment)

    def _place(self, batch: list[tuple[Draft, Record]]) -> None:
        drafts = [(draft, record.study_key, record.file_name) for draft, record in batch]
        for outcome in self.spool.place_all(drafts):
            self.counters.add(outcome.kind.value)
            if outcome.kind is StoreKind.CONFLICT:
                log.warning("second data set under a known UID, kept in quarantine", study=outcome.study_key)


class _Reader:
    """Records of one segment, each in turn in one block."""

    def __init__(self, segment: Segment, block: Block) -> None:
        self.damaged = 0
        self._segment = segment
        self._block = block
        self._descriptor = _open_to_read(segment.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def records(self) -> Iterator[Record]:
        """Every good record. Where none begins there is damage, or in a torn segment what nobody answered."""
        at, end = 0, self._segment.end
        while at + PAGE <= end:
            record = self._record(at, end)
            if record is not None:
                yield record
                at += record.size
            else:
                self.damaged += 1
                at = self._next(at + PAGE, end)

    def _record(self, at: int, end: int) -> Record | None:
        view = self._block.view
        if self._read(view[:PAGE], at) < PAGE:
            return None
        record = read_head(view[:PAGE], self._segment.generation)
        if record is None:
            return None
        whole = record.size - PAGE
        if whole <= CAPACITY + PAGE and at + record.size <= end:
            self._read(view[PAGE : PAGE + whole], at + PAGE)
            self._block.end = PAGE + record.length
            if zlib.crc32(self._block.file) == record.checksum:
                return record
        return None

    def _next(self, at: int, end: int) -> int:
        """Where the next page stands that looks like a record's."""
        wanted = marker(self._segment.generation)
        while at < end:
            got = self._read(self._block.view[:_SEARCH], at)
            if not got:
                return end
            found = self._block.memory.find(wanted, 0, got)
            while found >= 0:
                if found % PAGE == 0:
                    return at + found
                found = self._block.memory.find(wanted, found + 1, got)
            at += got
        return end

    def _read(self, view: memoryview, at: int) -> int:
        return os.preadv(self._descriptor, [view], at)


def _open_to_read(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT)
    except (AttributeError, OSError):
        return os.open(path, os.O_RDONLY)

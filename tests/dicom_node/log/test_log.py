"""Landing, keeper and segments together: what was kept becomes a file, once, whatever happens in between."""

import errno
import itertools
import os
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import SpoolFullError
from dicom_node.identity import instance_file_name, study_key
from dicom_node.keys import Keys
from dicom_node.landing import Origin
from dicom_node.log import keeper as keeper_module
from dicom_node.log import landing as landing_module
from dicom_node.log.keeper import Keeper
from dicom_node.log.landing import LogLanding
from dicom_node.log.record import record_size
from dicom_node.log.segments import Backlog, Segment, Segments, backlog
from dicom_node.part10 import file_head
from dicom_node.receiving.block import PAGE, Block
from dicom_node.spool import Spool, StoreKind

SECRET = b"s" * 32
SEGMENT = 1024 * 1024
STUDY = "1.2.3"
ORIGIN = Origin("1.2.840.10008.1.2.1", "SCANNER")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", SECRET, free_mark_bytes=1)


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    made = Segments(tmp_path / "log", count=2, segment_bytes=SEGMENT)
    made.prepare()
    return made


@pytest.fixture
def landing(spool: Spool, segments: Segments) -> LogLanding:
    return LogLanding(spool, segments, owner="0")


def part10(sop: str, data: bytes) -> bytes:
    return file_head(sop_class="1.2", sop_instance=sop, syntax=ORIGIN.syntax, sender=ORIGIN.sender) + data


def keep(landing: LogLanding, sop: str, data: bytes, study: str = STUDY) -> bytes:
    block = Block()
    content = part10(sop, data)
    block.view[PAGE : PAGE + len(content)] = content
    block.end = PAGE + len(content)
    outcome = landing.keep(block, Keys(sop_class_uid="1.2", sop_instance_uid=sop, study_uid=study), ORIGIN)
    assert (outcome.kind, outcome.study_key) == (StoreKind.STORED, study_key(SECRET, study))
    return content


def spooled(spool: Spool) -> dict[str, bytes]:
    return {
        found.file_name: found.path.read_bytes()
        for key, _ in spool.studies()
        for found in spool.instances(key)
    }


def names(segments: Segments) -> list[str]:
    return sorted(path.name.split(".")[0] for path in segments._all())


def test_what_was_kept_becomes_files_and_the_segments_go_round(
    spool: Spool, segments: Segments, landing: LogLanding
) -> None:
    sent = {}
    # Sizes around a page, and more than one segment of them.
    for number, size in enumerate([1, 2, 3700, 3800, 4096, 70_000, 300_001, 600_000, 700_000, 10]):
        sop = f"1.2.{number}"
        sent[instance_file_name(sop)] = keep(landing, sop, os.urandom(size))
    assert spooled(spool) == {}
    landing.close()

    assert Keeper(spool, segments).empty() == 2
    assert spooled(spool) == sent
    assert names(segments) == ["spare", "spare"]


def test_the_time_of_a_file_is_the_time_of_its_receipt(
    spool: Spool, segments: Segments, landing: LogLanding
) -> None:
    for number in range(3):
        keep(landing, f"1.2.{number}", b"x")
    landing.close()
    Keeper(spool, segments).empty()

    instances = spool.instances(study_key(SECRET, STUDY))
    assert [found.file_name for found in instances] == [instance_file_name(f"1.2.{n}") for n in range(3)]


def test_copies_and_conflicts_are_found_by_the_keeper(
    spool: Spool, segments: Segments, landing: LogLanding, tmp_path: Path
) -> None:
    first = keep(landing, "1.2.1", b"first")
    keep(landing, "1.2.1", b"first")
    other = keep(landing, "1.2.1", b"other")
    landing.close()

    keeper = Keeper(spool, segments)
    with capture_logs() as logs:
        keeper.empty()

    assert keeper.counters.snapshot() == {"stored": 1, "duplicate": 1, "conflict": 1}
    assert spooled(spool) == {instance_file_name("1.2.1"): first}
    assert [path.read_bytes() for path in (tmp_path / "quarantine").iterdir()] == [other]
    assert [entry["event"] for entry in logs] == ["second data set under a known UID, kept in quarantine"]


def test_what_a_dead_receiver_left_is_recovered_without_its_torn_record(
    spool: Spool, segments: Segments, landing: LogLanding, tmp_path: Path
) -> None:
    sent = {instance_file_name(f"1.2.{n}"): keep(landing, f"1.2.{n}", b"%d" % n * 5000) for n in range(5)}
    landing._is_closed = True  # dead
    landing._look.set()
    landing._watch.join()
    (active,) = (tmp_path / "log").glob("active-*")
    content = bytearray(active.read_bytes())
    record = PAGE + 2 * PAGE  # head, and 5,400 bytes
    content[record + PAGE + 500] ^= 1  # the second was not written whole; those behind it were
    active.write_bytes(content)
    del sent[instance_file_name("1.2.1")]

    # Its segment, and the next it had ready.
    assert Keeper(spool, Segments(tmp_path / "log", count=2, segment_bytes=SEGMENT)).recover() == 2
    assert spooled(spool) == sent
    assert names(segments) == ["spare", "spare"]


def test_a_record_of_an_earlier_life_is_none_of_this(
    spool: Spool, segments: Segments, tmp_path: Path
) -> None:
    for life in range(3):
        landing = LogLanding(spool, segments, owner="0")
        for number in range(5 - life):
            keep(landing, f"1.{life}.{number}", b"x")
        landing.close()
        segments_left = segments.sealed()
        # As if it had not been closed in order: the whole segment is searched.
        segments_left[0].path.rename(tmp_path / "log" / f"active-0.1.{segments_left[0].generation.hex()}")
        Keeper(spool, segments).recover()

    assert len(spooled(spool)) == 5 + 4 + 3


def test_a_segment_closed_in_order_that_went_bad_is_put_by(
    spool: Spool, segments: Segments, landing: LogLanding, tmp_path: Path
) -> None:
    keep(landing, "1.2.1", b"x" * 9000)
    good = keep(landing, "1.2.2", b"good")
    landing.close()
    (sealed,) = (tmp_path / "log").glob("sealed.*")
    with sealed.open("r+b") as file:
        file.seek(PAGE + 5000)
        file.write(b"y")

    with capture_logs() as logs:
        Keeper(spool, segments).empty()

    assert spooled(spool) == {instance_file_name("1.2.2"): good}
    assert [entry["event"] for entry in logs] == ["records of the log are damaged; the segment is put by"]
    assert len(list((tmp_path / "log").glob("damaged.*"))) == 1


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_bit_that_flips_in_what_a_record_says_of_itself_is_damage_too(
    spool: Spool, segments: Segments, landing: LogLanding, tmp_path: Path, which: int
) -> None:
    sent = [keep(landing, f"1.2.{n}", b"%d" % n * 9000) for n in range(3)]
    landing.close()
    (sealed,) = (tmp_path / "log").glob("sealed.*")
    content = bytearray(sealed.read_bytes())
    content[which * record_size(len(sent[0])) + 40] ^= 1
    sealed.write_bytes(content)

    with capture_logs() as logs:
        Keeper(spool, segments).empty()

    good = {instance_file_name(f"1.2.{n}"): sent[n] for n in range(3) if n != which}
    assert spooled(spool) == good
    assert [(entry["event"], entry["count"]) for entry in logs] == [
        ("records of the log are damaged; the segment is put by", 1)
    ]
    (kept,) = (tmp_path / "log").glob("damaged.*")
    assert kept.read_bytes() == content


class FailingSegments(Segments):
    """A folder that cannot be looked at for a while, for a reason that nobody has thought of."""

    failures = 2

    def is_at_rest(self) -> bool:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("can't start new thread")
        return super().is_at_rest()


def test_a_keeper_goes_on_after_what_nobody_has_thought_of(
    spool: Spool, landing: LogLanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "PAUSE_S", 0.01)
    sent = keep(landing, "1.2.1", b"x")
    landing.close()
    failing = FailingSegments(tmp_path / "log", count=2, segment_bytes=SEGMENT)
    stop = threading.Event()
    thread = threading.Thread(target=Keeper(spool, failing).run, args=[stop])
    with capture_logs() as logs:
        thread.start()
        for _ in range(1200):
            if spooled(spool):
                break
            time.sleep(0.05)
        stop.set()
        thread.join()

    assert spooled(spool) == {instance_file_name("1.2.1"): sent}
    assert [entry["event"] for entry in logs] == ["log not emptied"] * 2


def test_a_segment_that_breaks_the_keeper_does_not_stop_the_others(
    spool: Spool, segments: Segments, landing: LogLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(landing, "1.2.1", b"x")
    landing.close()
    later = LogLanding(spool, segments, owner="0")
    content = keep(later, "1.2.2", b"y")
    later.close()
    recycled: list[Segment] = []

    def recycle(segment: Segment) -> None:
        recycled.append(segment)
        if len(recycled) == 1:
            raise MemoryError

    monkeypatch.setattr(segments, "recycle", recycle)
    with pytest.raises(MemoryError):
        Keeper(spool, segments).empty()

    assert len(recycled) == 2
    assert spooled(spool)[instance_file_name("1.2.2")] == content


def test_a_keeper_that_dies_begins_again(
    spool: Spool, segments: Segments, landing: LogLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {instance_file_name(f"1.2.{n}"): keep(landing, f"1.2.{n}", b"x") for n in range(4)}
    landing.close()
    monkeypatch.setattr(segments, "recycle", lambda _: os._exit)  # all is placed, nothing is recycled
    Keeper(spool, segments).empty()
    monkeypatch.undo()

    Keeper(spool, segments).empty()

    assert spooled(spool) == sent
    assert names(segments) == ["spare", "spare"]


def test_a_file_the_disk_damaged_does_not_stop_the_log(
    spool: Spool, segments: Segments, landing: LogLanding, tmp_path: Path
) -> None:
    keep(landing, "1.2.1", b"first")
    landing.close()
    Keeper(spool, segments).empty()
    damaged = spool.path_of(study_key(SECRET, STUDY), instance_file_name("1.2.1"))
    damaged.write_bytes(b"")
    again = LogLanding(spool, segments, owner="0")
    copy, other = keep(again, "1.2.1", b"first"), keep(again, "1.2.2", b"other")
    again.close()

    Keeper(spool, segments).empty()

    assert spooled(spool) == {instance_file_name("1.2.1"): b"", instance_file_name("1.2.2"): other}
    assert [path.read_bytes() for path in (tmp_path / "quarantine").iterdir()] == [copy]  # not lost
    assert names(segments) == ["spare", "spare"]


def test_a_segment_that_cannot_be_emptied_does_not_stop_the_others(
    spool: Spool, segments: Segments, landing: LogLanding
) -> None:
    keep(landing, "1.2.1", b"x")
    landing.close()
    study = spool.incoming.parent / study_key(SECRET, STUDY)
    study.write_bytes(b"no folder")
    later = LogLanding(spool, segments, owner="0")
    content = keep(later, "1.2.2", b"y", study="1.2.4")
    later.close()

    with pytest.raises(NotADirectoryError):
        Keeper(spool, segments).empty()
    assert [found.path.read_bytes() for found in spool.instances(study_key(SECRET, "1.2.4"))] == [content]
    assert len(segments.sealed()) == 1

    study.unlink()
    Keeper(spool, segments).empty()
    assert len(spool.instances(study_key(SECRET, STUDY))) == 1


class RefusingSegments(Segments):
    """A folder that refuses renames for a while."""

    refusals = 0

    def seal(self, segment: Segment, end: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EIO, "Input/output error")
        super().seal(segment, end)


def test_a_segment_whose_hand_over_was_refused_is_handed_over_later(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_module, "REST_S", 0.05)
    segments = RefusingSegments(tmp_path / "log", count=2, segment_bytes=SEGMENT)
    segments.prepare()
    segments.refusals = 2
    landing = LogLanding(spool, segments, owner="0")
    sent = keep(landing, "1.2.1", b"x")
    for _ in range(1200):
        if segments.sealed():
            break
        time.sleep(0.05)
    landing.close()

    Keeper(spool, segments).empty()
    assert spooled(spool) == {instance_file_name("1.2.1"): sent}
    assert segments.refusals == 0


def test_a_disk_that_is_full_when_a_segment_begins_is_told_and_loses_no_descriptor(
    spool: Spool, segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = LogLanding(spool, segments, owner="0")
    begin = segments.begin

    def refuse(_: Segment) -> Segment:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segments, "begin", refuse)
    for _ in range(3):
        with pytest.raises(SpoolFullError):
            keep(landing, "1.2.1", b"x")
    assert names(segments) == ["ready-0", "spare"]

    monkeypatch.setattr(segments, "begin", begin)
    sent = keep(landing, "1.2.1", b"x")
    landing.close()
    Keeper(spool, segments).empty()
    assert spooled(spool) == {instance_file_name("1.2.1"): sent}


def test_a_full_log_is_a_full_disk(spool: Spool, segments: Segments, landing: LogLanding) -> None:
    count = 0
    with pytest.raises(SpoolFullError):
        for number in itertools.count():
            keep(landing, f"1.2.{number}", b"x" * 900_000)
            count += 1

    assert count == 8  # a record fills a segment; two may become four times as many
    landing.close()
    Keeper(spool, segments).empty()
    assert len(spooled(spool)) == count
    assert names(segments) == ["spare", "spare"]


def test_at_rest_the_keeper_is_handed_everything(
    spool: Spool, segments: Segments, landing: LogLanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_module, "REST_S", 0.05)
    stop = threading.Event()
    keeper = threading.Thread(target=Keeper(spool, segments).run, args=[stop])
    keeper.start()
    try:
        sent = keep(landing, "1.2.1", b"x")
        for _ in range(1200):
            if spooled(spool):
                break
            stop.wait(0.05)
        assert spooled(spool) == {instance_file_name("1.2.1"): sent}
    finally:
        stop.set()
        keeper.join()
        landing.close()


def test_what_waits_for_the_keeper_and_what_was_put_by_is_seen_from_outside(
    segments: Segments, landing: LogLanding, tmp_path: Path
) -> None:
    keep(landing, "1.2.1", b"x")
    assert backlog(tmp_path / "log") == Backlog(oldest_s=0.0, damaged=0)
    landing.close()
    time.sleep(0.05)

    found = backlog(tmp_path / "log")
    assert 0.04 < found.oldest_s < 60
    assert found.damaged == 0

    segments.put_by(segments.sealed()[0])
    assert backlog(tmp_path / "log") == Backlog(oldest_s=0.0, damaged=1)
    assert backlog(tmp_path / "nowhere") == Backlog(oldest_s=0.0, damaged=0)


def test_strange_files_in_the_folder_are_let_be(
    spool: Spool, segments: Segments, landing: LogLanding, tmp_path: Path
) -> None:
    sent = keep(landing, "1.2.1", b"x")
    landing.close()
    strange = [
        tmp_path / "log" / name for name in ("sealed.note", "spare.old", "active-0.bak", "sealed.1.2.ab.gz")
    ]
    for path in strange:
        path.write_bytes(b"")

    Keeper(spool, segments).recover()

    assert spooled(spool) == {instance_file_name("1.2.1"): sent}
    assert all(path.exists() for path in strange)


def test_the_log_belongs_to_one_node(tmp_path: Path, segments: Segments) -> None:
    assert segments.lock(0.0)
    assert not Segments(tmp_path / "log", count=2).lock(0.0)


def test_a_segment_that_a_dead_receiver_was_making_goes_when_its_successor_begins(
    segments: Segments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows by segments that a receiver makes itself; what a kill left of one is as large."""

    def killed(_: int) -> None:
        raise SystemExit

    for owner in ("0", "1"):
        segments.take(owner)
    monkeypatch.setattr(os, "fsync", killed)
    for owner in ("0", "1"):
        with pytest.raises(SystemExit):
            segments.take(owner)
    monkeypatch.undo()

    segments.abandon("0")

    (draft,) = (tmp_path / "log").glob(".*.new")
    assert draft.name.startswith(".1.")

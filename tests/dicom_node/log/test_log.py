"""Landing, keeper and segments together: what was kept becomes a file, once, whatever happens in between."""

import itertools
import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import SpoolFullError
from dicom_node.identity import instance_file_name, study_key
from dicom_node.keys import Keys
from dicom_node.landing import Origin
from dicom_node.log import landing as landing_module
from dicom_node.log.keeper import Keeper
from dicom_node.log.landing import LogLanding
from dicom_node.log.segments import Segments
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


def keep(landing: LogLanding, sop: str, data: bytes) -> bytes:
    block = Block()
    content = part10(sop, data)
    block.view[PAGE : PAGE + len(content)] = content
    block.end = PAGE + len(content)
    outcome = landing.keep(block, Keys(sop_class_uid="1.2", sop_instance_uid=sop, study_uid=STUDY), ORIGIN)
    assert (outcome.kind, outcome.study_key) == (StoreKind.STORED, study_key(SECRET, STUDY))
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

    with capture_logs() as logs:
        Keeper(spool, segments).empty()

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
        for _ in range(100):
            if spooled(spool):
                break
            stop.wait(0.05)
        assert spooled(spool) == {instance_file_name("1.2.1"): sent}
    finally:
        stop.set()
        keeper.join()
        landing.close()


def test_the_log_belongs_to_one_node(tmp_path: Path, segments: Segments) -> None:
    assert segments.lock(0.0)
    assert not Segments(tmp_path / "log", count=2).lock(0.0)

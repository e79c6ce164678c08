import os
import threading
from pathlib import Path

import pytest

from dicom_node import quota as module
from dicom_node.quota import Quota, quota_mark, read_used
from dicom_node.spool import Spool

HEAD = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)


def put(spool: Spool, study: str, instance: str, size: int) -> Path:
    return spool.store(study, instance, [HEAD, b"x" * (size - len(HEAD))]).path


def test_what_is_above_the_quota_is_refused_until_something_goes(spool: Spool, tmp_path: Path) -> None:
    quota = Quota(tmp_path / "spool", limit_bytes=10_000)
    assert quota.measure() == 0
    first = put(spool, "1.2", "1.2.1", 6000)
    assert quota.measure() == 6000
    assert spool.has_room()

    put(spool, "1.3", "1.3.1", 4000)
    assert quota.measure() == 10_000
    assert not spool.has_room()

    first.unlink()
    assert quota.measure() == 4000
    assert spool.has_room()
    assert read_used(tmp_path / "spool") == 4000


def test_a_mark_of_an_earlier_run_goes_when_there_is_no_quota_any_more(spool: Spool, tmp_path: Path) -> None:
    put(spool, "1.2", "1.2.1", 500)
    Quota(tmp_path / "spool", limit_bytes=1).measure()
    assert quota_mark(tmp_path / "spool").exists()

    Quota(tmp_path / "spool", limit_bytes=None).measure()

    assert not quota_mark(tmp_path / "spool").exists()


@pytest.mark.parametrize(("limit", "has_room"), [(6000, False), (6001, True), (None, True)])
def test_a_start_takes_the_sum_of_the_run_before_and_reads_no_folder(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, has_room: bool
) -> None:
    put(spool, "1.2", "1.2.1", 6000)
    Quota(tmp_path / "spool", limit_bytes=1).measure()
    read: list[Path] = []
    monkeypatch.setattr(module, "_size", lambda folder: read.append(folder) or 0)

    Quota(tmp_path / "spool", limit_bytes=limit).begin()

    assert spool.has_room() == has_room
    assert read == []


def test_a_start_with_a_quota_and_no_sum_of_a_run_before_measures(spool: Spool, tmp_path: Path) -> None:
    put(spool, "1.2", "1.2.1", 6000)

    Quota(tmp_path / "spool", limit_bytes=6000).begin()

    assert not spool.has_room()


def test_a_spool_that_is_full_is_told_before_all_of_it_was_read(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of the run before is of a spool that something else has filled since."""
    for study in range(3):
        put(spool, f"1.{study}", "1.2.1", 6000)
    size, told = module._size, []
    monkeypatch.setattr(module, "_size", lambda folder: told.append(spool.has_room()) or size(folder))

    Quota(tmp_path / "spool", limit_bytes=10_000).measure()

    assert told == [True, True, False]


def test_a_look_that_is_stopped_leaves_the_sum_as_it_was(spool: Spool, tmp_path: Path) -> None:
    """A node that stops does not wait for a large spool."""
    put(spool, "1.2", "1.2.1", 6000)
    quota = Quota(tmp_path / "spool", limit_bytes=None)
    quota.measure()
    put(spool, "1.3", "1.2.1", 6000)
    stop = threading.Event()
    stop.set()

    quota.run(stop)

    assert read_used(tmp_path / "spool") == 6000


def test_only_folders_that_changed_are_read_again(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    size = module._size
    monkeypatch.setattr(module, "_size", lambda folder: read.append(folder.name) or size(folder))
    quota = Quota(tmp_path / "spool", limit_bytes=None)
    keys = [put(spool, f"1.{study}", f"1.{study}.1", 500).parent.name for study in range(3)]
    for key in keys:
        os.utime(tmp_path / "spool" / key, (1, 1))
    quota.measure()
    assert sorted(read) == sorted(keys)
    read.clear()

    put(spool, "1.1", "1.1.2", 700)

    assert quota.measure() == 2200
    assert read == [keys[1]]


def test_the_marks_are_no_studies(spool: Spool, tmp_path: Path) -> None:
    put(spool, "1.2", "1.2.1", 500)
    Quota(tmp_path / "spool", limit_bytes=1).measure()

    assert len(list(spool.studies())) == 1


def test_measuring_goes_on_when_the_disk_does_not_and_stops_when_told(tmp_path: Path) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Quota(tmp_path / "missing", limit_bytes=1).run, args=[stop])
    thread.start()
    stop.set()
    thread.join(timeout=30)

    assert not thread.is_alive()
    assert read_used(tmp_path / "missing") is None

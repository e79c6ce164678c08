import errno
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.errors import SpoolFullError, UnreadableInstanceError
from dicom_node.identity import instance_file_name, study_key
from dicom_node.quarantine import conflicts
from dicom_node.spool import Spool, StoreKind, is_copy
from dicom_node.withdrawn import Withdrawn

SECRET = b"s" * 32
STUDY, SOP = "1.2.3", "1.2.3.4"
# Preamble, prefix, and a file meta information of one element: its own length, zero.
HEAD = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", SECRET, free_mark_bytes=1)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_an_instance_lies_under_its_pseudonyms_with_its_bytes(spool: Spool, tmp_path: Path) -> None:
    outcome = spool.store(STUDY, SOP, [HEAD, b"data ", b"set"])

    assert outcome.kind is StoreKind.STORED
    assert outcome.path == tmp_path / "spool" / study_key(SECRET, STUDY) / instance_file_name(SOP)
    assert outcome.path.read_bytes() == HEAD + b"data set"
    assert files(spool.incoming) == []


def test_second_copy_of_an_instance_changes_nothing(spool: Spool, tmp_path: Path) -> None:
    first = spool.store(STUDY, SOP, [HEAD, b"data set"])
    before = first.path.stat()

    # Another association wrote another file meta; the data set is what counts.
    other_head = HEAD.replace(b"\0" * 128, b"\1" * 128)
    second = spool.store(STUDY, SOP, [other_head, b"data set"])

    assert second.kind is StoreKind.DUPLICATE
    assert (first.path.stat().st_mtime_ns, first.path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert files(tmp_path / "quarantine") == []


def test_a_different_data_set_under_a_known_uid_goes_to_quarantine(spool: Spool, tmp_path: Path) -> None:
    first = spool.store(STUDY, SOP, [HEAD, b"data set"])

    second = spool.store(STUDY, SOP, [HEAD, b"other"])

    assert second.kind is StoreKind.CONFLICT
    assert first.path.read_bytes() == HEAD + b"data set"
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert conflicts(tmp_path / "quarantine") == {(second.study_key, second.file_name)}
    assert kept.read_bytes() == HEAD + b"other"


def test_what_a_deletion_takes_out_while_a_copy_is_compared_with_it_is_stored_anew(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = spool.store(STUDY, SOP, [HEAD, b"data set"])

    def compare(draft: Path, final: Path) -> bool:
        is_same = is_copy(draft, final)
        Withdrawn(spool).take_out(first.study_key, [first.file_name])
        return is_same

    monkeypatch.setattr("dicom_node.spool.is_copy", compare)
    second = spool.store(STUDY, SOP, [HEAD, b"data set"])
    Withdrawn(spool).remove(first.study_key)

    assert second.kind is StoreKind.STORED
    assert second.path.read_bytes() == HEAD + b"data set"


def test_of_many_senders_at_once_one_wins_and_none_is_lost(spool: Spool, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: spool.store(STUDY, SOP, [HEAD, b"%d" % n]), range(8)))

    assert sorted(outcome.kind for outcome in outcomes) == [StoreKind.CONFLICT] * 7 + [StoreKind.STORED]
    kept = {path.read_bytes() for path in (tmp_path / "quarantine").iterdir()}
    assert len(kept | {outcomes[0].path.read_bytes()}) == 8


def test_quarantine_keeps_the_same_bytes_once(spool: Spool, tmp_path: Path) -> None:
    paths = {spool.quarantine([b"gar", b"bage"], "unreadable") for _ in range(3)}

    (path,) = paths
    assert path.read_bytes() == b"garbage"
    assert files(tmp_path / "quarantine") == [hashlib.sha256(b"garbage").hexdigest()[:32] + ".unreadable.dcm"]


def test_a_full_disk_is_an_error_of_its_own_and_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield HEAD
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SpoolFullError):
        spool.store(STUDY, SOP, parts())
    assert files(tmp_path) == []


def test_a_broken_stream_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield HEAD
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        spool.store(STUDY, SOP, parts())
    assert files(tmp_path) == []


def test_there_is_room_only_above_the_mark(tmp_path: Path) -> None:
    assert Spool(tmp_path / "a", SECRET, free_mark_bytes=1).has_room()
    assert not Spool(tmp_path / "b", SECRET, free_mark_bytes=1 << 62).has_room()


def test_an_instance_is_on_the_disk_before_its_name_and_its_name_before_success(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    final = spool.incoming.parent / study_key(SECRET, STUDY) / instance_file_name(SOP)
    real_fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, final.exists()))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    spool.store(STUDY, SOP, [HEAD, b"data set"])

    names = [name for name, _ in synced]
    assert names[0] not in {study_key(SECRET, STUDY), "spool"}  # the file itself, which has no name yet
    assert not synced[0][1]
    assert names[1:] == [study_key(SECRET, STUDY), "spool"]  # the file's name, then its folder's
    assert all(there for _, there in synced[1:])


def test_a_new_spool_does_not_trust_folders_it_did_not_sync(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.store(
        STUDY, SOP, [HEAD, b"data set"]
    )  # its process may have died before the folder's name was safe
    again = Spool(tmp_path / "spool", SECRET, free_mark_bytes=1)
    synced: list[str] = []
    real_fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    again.store(STUDY, SOP, [HEAD, b"data set"])

    assert synced[-1] == "spool"


def test_left_over_files_are_swept_and_living_ones_are_not(spool: Spool) -> None:
    old, young = spool.incoming / "old.part", spool.incoming / "young.part"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))

    assert spool.sweep() == 1
    assert files(spool.incoming) == ["young.part"]


def test_studies_and_instances_are_listed_from_the_folders(spool: Spool) -> None:
    spool.store(STUDY, SOP, [HEAD, b"data set"])
    spool.store("1.2.9", SOP, [HEAD, b"data set"])

    keys = dict(spool.studies())

    assert set(keys) == {study_key(SECRET, STUDY), study_key(SECRET, "1.2.9")}
    (instance,) = spool.instances(study_key(SECRET, STUDY))
    assert instance.file_name == instance_file_name(SOP)
    assert instance.size_bytes == len(HEAD) + len(b"data set")
    assert instance.sha256() == hashlib.sha256(b"data set").hexdigest()


def test_a_study_folder_changes_its_stamp_with_every_instance(spool: Spool) -> None:
    spool.store(STUDY, SOP, [HEAD, b"data set"])
    key = study_key(SECRET, STUDY)
    folder = spool.incoming.parent / key
    os.utime(folder, ns=(1, 1))

    spool.store(STUDY, "1.2.3.5", [HEAD, b"data set"])

    assert dict(spool.studies())[key] > 1


def test_an_unknown_study_has_no_instances_and_a_path_is_no_key(spool: Spool) -> None:
    assert spool.instances("a" * 20) == []
    with pytest.raises(ValueError, match="not a study key"):
        spool.instances("../quarantine")


def test_a_file_damaged_on_disk_says_so(spool: Spool) -> None:
    path = spool.store(STUDY, SOP, [HEAD, b"data set"]).path
    path.write_bytes(b"")
    (instance,) = spool.instances(study_key(SECRET, STUDY))

    with pytest.raises(UnreadableInstanceError):
        instance.header()


def test_an_instance_that_comes_again_for_a_damaged_file_is_not_lost(spool: Spool, tmp_path: Path) -> None:
    path = spool.store(STUDY, SOP, [HEAD, b"data set"]).path
    path.write_bytes(b"")

    again = spool.store(STUDY, SOP, [HEAD, b"data set"])

    assert again.kind is StoreKind.CONFLICT  # what stands in a study never changes
    assert [kept.read_bytes() for kept in (tmp_path / "quarantine").iterdir()] == [HEAD + b"data set"]


def test_what_is_no_file_is_no_instance(spool: Spool) -> None:
    stored = spool.store(STUDY, SOP, [HEAD, b"data set"]).path
    (stored.parent / "folder").mkdir()
    (stored.parent / "link.dcm").symlink_to(stored)
    os.mkfifo(stored.parent / "pipe.dcm")

    assert [found.path for found in spool.instances(stored.parent.name)] == [stored]


def test_the_folders_of_a_first_start_survive_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = fsyncs(monkeypatch)
    Spool(tmp_path / "data" / "spool", SECRET, free_mark_bytes=1)

    assert set(synced) == {tmp_path, tmp_path / "data", tmp_path / "data" / "spool"}


def test_a_study_folder_that_is_made_again_is_synced_again(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spool.store(STUDY, SOP, [HEAD, b"data set"]).path
    path.unlink()
    path.parent.rmdir()
    synced = fsyncs(monkeypatch)

    spool.store(STUDY, SOP, [HEAD, b"data set"])

    assert synced[-1] == tmp_path / "spool"


def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Everything synced from now on."""
    synced: list[Path] = []
    real_fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    return synced

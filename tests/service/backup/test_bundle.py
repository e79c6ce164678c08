"""The files of a backup, without a site."""

import errno
import os
import tarfile
from pathlib import Path

import pytest

from service.backup.bundle import JOURNAL, BackupError, Draft, Part, open_bundle, put_on_disk, verify


def test_an_interrupted_copy_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"first")
    draft = Draft.open(tmp_path / "draft")
    assert draft.copy("spool/one", tmp_path / "one")
    with (tmp_path / "draft" / JOURNAL).open("a") as journal:
        journal.write('{"name": "spool/tw')  # a kill in the middle of a line
    written = (tmp_path / "draft" / "spool" / "one").stat().st_mtime_ns

    again = Draft.open(tmp_path / "draft")

    assert again.copy("spool/one", tmp_path / "one")
    assert (tmp_path / "draft" / "spool" / "one").stat().st_mtime_ns == written  # not copied again
    assert not again.copy("spool/two", tmp_path / "two")
    assert again.files == draft.files


@pytest.mark.parametrize("content", [b"longer than the first", b"other"], ids=["longer", "as long"])
def test_a_source_that_changed_since_the_interruption_is_copied_again(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "one"
    source.write_bytes(b"first")
    Draft.open(tmp_path / "draft").copy("spool/one", source)
    known = source.stat().st_mtime_ns
    source.write_bytes(content)
    os.utime(source, ns=(known + 1, known + 1))

    Draft.open(tmp_path / "draft").copy("spool/one", source)

    assert (tmp_path / "draft" / "spool" / "one").read_bytes() == content


def test_a_source_that_went_since_the_interruption_is_not_in_the_backup(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"first")
    Draft.open(tmp_path / "draft").copy("spool/one", tmp_path / "one")
    (tmp_path / "one").unlink()

    again = Draft.open(tmp_path / "draft")

    assert not again.copy("spool/one", tmp_path / "one")
    assert not again.files


def test_what_fails_while_a_tar_is_read_is_told_as_it_is(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass

    with pytest.raises(OSError, match="No space left"), open_bundle(tmp_path / "x.tar"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_is_no_tar_and_one_that_was_cut_are_no_backups(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(BackupError, match="is no backup"), open_bundle(tmp_path / "x.tar"):
        pass
    with pytest.raises(BackupError, match="is no backup"), open_bundle(tmp_path / "none.tar"):
        pass

    with tarfile.open(tmp_path / "y.tar", "w") as tar:
        (tmp_path / "manifest.json").write_bytes(b" " * 100_000)
        tar.add(tmp_path / "manifest.json", "manifest.json")
    os.truncate(tmp_path / "y.tar", 50_000)
    with pytest.raises(BackupError, match="was cut"), open_bundle(tmp_path / "y.tar"):
        pass


def test_a_tar_that_is_cut_while_it_is_read_is_damaged(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        (tmp_path / "manifest.json").write_bytes(b" " * 100_000)
        tar.add(tmp_path / "manifest.json", "manifest.json")

    with open_bundle(tmp_path / "x.tar") as bundle:
        os.truncate(tmp_path / "x.tar", 50_000)
        with pytest.raises(BackupError, match="damaged"):
            verify(bundle)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["manifest.json", "../nothing"])
def test_a_tar_of_links_is_no_backup(tmp_path: Path, kind: bytes, target: str) -> None:
    link = tarfile.TarInfo("manifest.json")
    link.type, link.linkname = kind, target
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(link)

    with open_bundle(tmp_path / "x.tar") as bundle, pytest.raises(BackupError, match=r"no manifest\.json"):
        verify(bundle)


def test_a_manifest_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"[" * 200_000)

    with open_bundle(tmp_path) as bundle, pytest.raises(BackupError, match="damaged"):
        verify(bundle)


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, "No room is left"), (errno.EACCES, "user that runs Vigil")]
)
def test_what_the_disk_refuses_is_told_with_what_mends_it(number: int, told: str) -> None:
    with pytest.raises(BackupError, match=told), put_on_disk("the backup"):
        raise OSError(number, os.strerror(number), "/backup/tonight.part")


def test_the_parts_of_a_backup_are_those_of_its_command() -> None:
    from service.backup_cli import PARTS

    assert set(PARTS) == set(Part)

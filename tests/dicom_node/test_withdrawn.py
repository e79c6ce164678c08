import os
from pathlib import Path

import pytest

from dicom_node.quota import DELETING
from dicom_node.spool import Spool
from dicom_node.withdrawn import Withdrawn

HEAD = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)


def keep(spool: Spool, instance: str) -> Path:
    return spool.store("1.2", instance, [HEAD, instance.encode()]).path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_go_and_come_back_and_the_study_folder_stays(spool: Spool) -> None:
    paths = [keep(spool, f"1.2.{number}") for number in range(3)]
    study = paths[0].parent
    before = contents(study)
    withdrawn = Withdrawn(spool)

    withdrawn.take_out(study.name, [paths[0].name, paths[1].name, "never.dcm"])
    assert (withdrawn.keys(), list(contents(study))) == ([study.name], [paths[2].name])

    withdrawn.put_back(study.name)
    assert (withdrawn.keys(), contents(study)) == ([], before)

    withdrawn.take_out(study.name, before)
    withdrawn.remove(study.name)
    assert (withdrawn.keys(), contents(study)) == ([], {})


def test_putting_back_goes_on_after_a_kill_between_the_two_names_of_a_file(spool: Spool) -> None:
    path = keep(spool, "1.2.1")
    before = contents(path.parent)
    withdrawn = Withdrawn(spool)
    withdrawn.take_out(path.parent.name, before)
    os.link(spool.root / DELETING / path.parent.name / path.name, path)

    withdrawn.put_back(path.parent.name)

    assert (withdrawn.keys(), contents(path.parent)) == ([], before)
    assert list(spool.quarantined.iterdir()) == []


def test_what_is_not_there_is_neither_put_back_nor_removed(spool: Spool) -> None:
    key = keep(spool, "1.2.1").parent.name
    withdrawn = Withdrawn(spool)

    assert withdrawn.keys() == []
    withdrawn.remove(key)

    assert len(spool.instances(key)) == 1

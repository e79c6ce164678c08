import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from dicom_node.errors import NewerPackError, UnreadableInstanceError
from dicom_node.pack import INDEX, Pack, pack_parts, unpack, write_pack
from dicom_node.spool import Spool, SpooledInstance

SECRET = b"s" * 32
HEAD = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"
SIZES = (0, 1, 511, 512, 513, 100_000)


@pytest.fixture
def instances(tmp_path: Path) -> list[SpooledInstance]:
    spool = Spool(tmp_path / "spool", SECRET, free_mark_bytes=1)
    for number, size in enumerate(SIZES):
        spool.store("1.2.3", f"1.2.3.{number}", [HEAD, os.urandom(size)])
    return spool.instances(spool.key_of("1.2.3"))


def test_every_instance_is_read_by_its_range(instances: list[SpooledInstance], tmp_path: Path) -> None:
    pack = Pack(write_pack(instances, tmp_path / "study.tar"))

    assert sorted(pack.places) == sorted(instance.file_name for instance in instances)
    for instance in instances:
        assert pack.read(instance.file_name) == instance.path.read_bytes()


def test_ordinary_tar_reads_it(instances: list[SpooledInstance], tmp_path: Path) -> None:
    path = write_pack(instances, tmp_path / "study.tar")
    out = tmp_path / "out"
    out.mkdir()

    subprocess.run(["tar", "-xf", str(path), "-C", str(out)], check=True)

    assert {file.name for file in out.iterdir()} == {INDEX, *(instance.file_name for instance in instances)}
    for instance in instances:
        assert (out / instance.file_name).read_bytes() == instance.path.read_bytes()
    with tarfile.open(path, "r:") as tar:
        assert {(member.uid, member.mtime, member.uname) for member in tar} == {(0, 0, "")}


def test_the_same_instances_give_the_same_bytes(instances: list[SpooledInstance], tmp_path: Path) -> None:
    first = write_pack(instances, tmp_path / "first.tar").read_bytes()
    os.utime(instances[0].path, (1, 1))

    assert write_pack(instances[::-1], tmp_path / "second.tar").read_bytes() == first


def test_a_file_that_changed_its_size_leaves_no_pack(
    instances: list[SpooledInstance], tmp_path: Path
) -> None:
    instances[-1].path.write_bytes(b"")

    with pytest.raises(OSError, match="unexpected end"):
        write_pack(instances, tmp_path / "study.tar")
    assert list(tmp_path.glob("*study.tar*")) == []


def test_no_pack_and_half_a_pack_are_told(instances: list[SpooledInstance], tmp_path: Path) -> None:
    path = write_pack(instances, tmp_path / "study.tar")
    last = max(instances, key=lambda instance: instance.file_name).file_name
    path.write_bytes(path.read_bytes()[: Pack(path).places[last].start])
    if Pack(path).places[last].length:
        with pytest.raises(UnreadableInstanceError, match="cut short"):
            Pack(path).read(last)
    path.write_bytes(HEAD * 8)
    with pytest.raises(UnreadableInstanceError, match="no pack"):
        Pack(path)


def test_an_unknown_instance_is_not_in_the_pack(instances: list[SpooledInstance], tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        Pack(write_pack(instances, tmp_path / "study.tar")).read("other.dcm")


def test_one_read_gives_every_instance_and_the_hash_of_the_whole(
    instances: list[SpooledInstance], tmp_path: Path
) -> None:
    content = b"".join(pack_parts(instances))
    (tmp_path / "out").mkdir()

    unpacked = unpack(io.BytesIO(content), tmp_path / "out", most_bytes=len(content))

    assert (unpacked.sha256, unpacked.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert sorted(unpacked.names) == sorted(instance.file_name for instance in instances)
    for instance in instances:
        assert (tmp_path / "out" / instance.file_name).read_bytes() == instance.path.read_bytes()


@pytest.mark.parametrize("cut", [0, 511, 700, -2000])
def test_a_pack_cut_short_is_refused(instances: list[SpooledInstance], tmp_path: Path, cut: int) -> None:
    content = b"".join(pack_parts(instances))

    with pytest.raises(UnreadableInstanceError):
        unpack(io.BytesIO(content[:cut]), tmp_path, most_bytes=len(content))


def test_no_more_is_written_than_allowed(instances: list[SpooledInstance], tmp_path: Path) -> None:
    content = b"".join(pack_parts(instances))

    for most_bytes in (600, 50_000, len(content) - 1):
        folder = tmp_path / str(most_bytes)
        folder.mkdir()
        with pytest.raises(UnreadableInstanceError):
            unpack(io.BytesIO(content), folder, most_bytes=most_bytes)
        assert sum(file.stat().st_size for file in folder.iterdir()) <= most_bytes


def packed_index(index: object) -> bytes:
    content = json.dumps(index).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(INDEX)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def test_a_pack_of_a_later_format_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NewerPackError, match=r"format 2.*Update Vigil"):
        unpack(io.BytesIO(packed_index({"format": 2, "members": {}})), tmp_path, most_bytes=1 << 20)


@pytest.mark.parametrize("name", ["../evil.dcm", "/etc/evil", "a/b.dcm", "", ".hidden", "x" * 200])
def test_a_name_that_is_no_plain_file_is_refused(tmp_path: Path, name: str) -> None:
    index = {"format": 1, "instances": [[name, "2048", 4]]}

    with pytest.raises(UnreadableInstanceError):
        unpack(io.BytesIO(packed_index(index)), tmp_path, most_bytes=1 << 20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "index",
    [
        [],
        {"instances": []},
        {"format": 1},
        {"format": "1", "instances": []},
        {"format": 1, "instances": [["a.dcm", "-5", 4]]},
        {"format": 1, "instances": [["a.dcm", "0", 4]]},
        {"format": 1, "instances": [["a.dcm", "4096", -4]]},
        {"format": 1, "instances": [["a.dcm", "2048", 4], ["a.dcm", "2048", 4]]},
        {"format": 1, "instances": [["a.dcm", "9" * 30, 4]]},
    ],
)
def test_an_index_that_makes_no_sense_is_refused(tmp_path: Path, index: object) -> None:
    with pytest.raises(UnreadableInstanceError):
        unpack(io.BytesIO(packed_index(index)), tmp_path, most_bytes=1 << 20)

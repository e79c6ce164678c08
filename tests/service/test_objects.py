"""Results in a folder: whole or not there, whatever happens to who writes them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.results import BuiltResult, encode
from service.store.objects import ResultFolder

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.service.test_objects import a_result
from service.store.objects import ResultFolder
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
ResultFolder(Path(sys.argv[1])).keep("key", [a_result()])
"""


def a_result() -> BuiltResult:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.SOPInstanceUID = UID("2.25.1")
    return BuiltResult(kind="secondary_capture", dataset=dataset)


def test_a_kill_in_the_middle_of_a_result_leaves_nothing(tmp_path: Path) -> None:
    here = str(Path(__file__).parents[2])
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path), here], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "key").iterdir()) == []


def test_the_same_result_again_changes_nothing(tmp_path: Path) -> None:
    objects = ResultFolder(tmp_path)
    (first,) = objects.keep("key", [a_result()])
    before = (tmp_path / first.path).stat()

    assert objects.keep("key", [a_result()]) == (first,)
    after = (tmp_path / first.path).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damaged", [b"", b"other bytes"])
def test_a_damaged_result_is_written_again(tmp_path: Path, damaged: bytes) -> None:
    objects = ResultFolder(tmp_path)
    (stored,) = objects.keep("key", [a_result()])
    (tmp_path / stored.path).write_bytes(damaged)

    objects.keep("key", [a_result()])

    with objects.local(stored.path, stored.sha256, stored.bytes) as file:
        assert file.read_bytes() == encode(a_result().dataset)

"""The node against programs nobody here wrote, and against every file of the test data."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1

from dicom_node.elements import read_file_meta, text_of
from dicom_node.keys import TRANSFER_SYNTAX_UID
from dicom_node.line import Line
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.scu import send_files, verify
from dicom_node.spool import Spool
from tests.phantoms import mr_image, write

AET = "VIGIL"
ENDS = {0x0000, 0xA900, 0xC001}  # stored, or refused with a reason


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)


@pytest.fixture
def receiver(spool: Spool) -> Iterator[Receiver]:
    with Receiver(spool, aet=AET, host="127.0.0.1", port=0, peers=Peers()) as running:
        yield running


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def spooled(spool: Spool) -> list[Path]:
    return [instance.path for key, _ in spool.studies() for instance in spool.instances(key)]


@pytest.mark.peers
def test_dcmtk_finds_the_node_alive_under_its_title_alone(receiver: Receiver) -> None:
    port = str(receiver.port)

    assert run("echoscu", "-aec", AET, "127.0.0.1", port).returncode == 0
    refused = run("echoscu", "-aec", "OTHER", "127.0.0.1", port)
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stderr


@pytest.mark.peers
def test_what_dcmtk_sends_is_what_dcmtk_reads_back(tmp_path: Path, spool: Spool, receiver: Receiver) -> None:
    images = [mr_image("dcmtk", n, np.full((16, 16), n, np.uint16)) for n in range(5)]
    sent = write(tmp_path / "sent", images)

    answer = run("storescu", "-aec", AET, "127.0.0.1", str(receiver.port), *map(str, sent))

    assert answer.returncode == 0, answer.stderr
    stored = spooled(spool)
    assert len(stored) == 5
    assert run("dcmftest", *map(str, stored)).returncode == 0
    dumps = sorted(run("dcmdump", "+P", "7FE0,0010", str(path)).stdout for path in stored)
    assert dumps == sorted(run("dcmdump", "+P", "7FE0,0010", str(path)).stdout for path in sent)


@pytest.mark.peers
def test_dcmtk_may_send_what_it_compressed_itself(tmp_path: Path, spool: Spool, receiver: Receiver) -> None:
    native = write(tmp_path, [mr_image("jpeg", 0, np.arange(256, dtype=np.uint16).reshape(16, 16))])[0]
    packed = tmp_path / "packed"
    assert run("dcmcjpeg", str(native), str(packed)).returncode == 0

    answer = run("storescu", "-xs", "-aec", AET, "127.0.0.1", str(receiver.port), str(packed))

    assert answer.returncode == 0, answer.stderr
    (stored,) = spooled(spool)
    with stored.open("rb") as file:
        assert text_of(read_file_meta(file), TRANSFER_SYNTAX_UID) == JPEGLosslessSV1


@pytest.mark.slow
def test_every_file_of_the_test_data_is_stored_or_refused_and_the_node_lives(
    test_data: Path, spool: Spool, receiver: Receiver
) -> None:
    """Raw bytes over the wire, hostile ones among them."""
    paths = sorted(path for path in (test_data / "dicom").rglob("*") if path.suffix == ".dcm")

    receipts = list(
        send_files(paths, host="127.0.0.1", port=receiver.port, calling_aet="CORPUS", called_aet=AET)
    )

    assert [receipt.path for receipt in receipts] == paths
    answered = [receipt for receipt in receipts if receipt.status is not None]
    assert {receipt.status for receipt in answered} <= ENDS
    # The others were not sent: no Part 10 file, no proper UIDs, or a private class.
    assert len(answered) > 0.8 * len(paths)
    assert sum(receipt.is_stored for receipt in receipts) > 0.7 * len(paths)
    assert list(spool.incoming.iterdir()) == []
    assert all(instance.header().study_uid for key, _ in spool.studies() for instance in spool.instances(key))
    verify(Line(host="127.0.0.1", port=receiver.port, calling_aet="CORPUS", called_aet=AET))


KILLED = """
import signal, sys
from pathlib import Path
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.spool import Spool

root = Path(sys.argv[1])
spool = Spool(root, b"s" * 32, free_mark_bytes=1)
receiver = Receiver(spool, aet="VIGIL", host="127.0.0.1", port=0, peers=Peers())
receiver.start()
print(receiver.port, flush=True)
signal.pause()
"""


def test_what_was_answered_with_success_survives_kill_9(tmp_path: Path) -> None:
    images = [mr_image("killed", n, np.full((64, 64), n, np.uint16)) for n in range(30)]
    sent = write(tmp_path / "sent", images)
    node = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "data" / "spool")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert node.stdout is not None
    port = int(node.stdout.readline())

    confirmed = 0
    for receipt in send_files(sent, host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet=AET):
        if receipt.is_stored:
            confirmed += 1
        if confirmed == 10:
            node.kill()
    node.wait()
    node.stdout.close()

    again = Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)
    ((key, _),) = again.studies()
    stored = again.instances(key)
    assert 10 <= confirmed <= len(stored) < 30
    assert {instance.header().study_uid for instance in stored} == {images[0].StudyInstanceUID}

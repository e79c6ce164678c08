"""The node as a program: several acceptors, one port, and a kill at the worst moment."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from dicom_node.caller import Caller
from dicom_node.errors import DestinationBusyError, PortInUseError
from dicom_node.identity import instance_file_name, load_or_make_secret
from dicom_node.line import Line
from dicom_node.log.keeper import Keeper
from dicom_node.log.segments import Segments
from dicom_node.receiving.acceptors import listen
from dicom_node.scu import send_files, verify
from dicom_node.spool import Spool
from tests.phantoms import mr_image, write

ROOT = Path(__file__).parents[3]
LANDINGS = ("log", "files")


@contextmanager
def node(data: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a node of two acceptors; its process and port."""
    command = [
        sys.executable,
        "-m",
        "service.cli",
        "node",
        "--standalone",
        "--port",
        "0",
        "--data",
        str(data),
    ]
    variables = {
        "VIGIL_LOG_MB": "64",
        "VIGIL_FREE_MARK_MB": "1",
        "VIGIL_RECEIVER_PROCESSES": "2",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **variables, **settings}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("vigil node ready"), line
            yield process, int(line.rsplit(":", 1)[1])
        finally:
            process.terminate()
            process.communicate(timeout=30)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split()]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def spooled(data: Path) -> dict[str, bytes]:
    spool = Spool(data / "spool", load_or_make_secret(data / "site.key"), free_mark_bytes=1)
    return {
        found.file_name: found.path.read_bytes()
        for key, _ in spool.studies()
        for found in spool.instances(key)
    }


def data_set_of(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def send(paths: list[Path], port: int) -> list[int | None]:
    receipts = send_files(paths, host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL")
    return [receipt.status for receipt in receipts]


@pytest.mark.parametrize("landing", LANDINGS)
def test_what_was_sent_is_there_when_the_node_has_stopped(tmp_path: Path, landing: str) -> None:
    images = [mr_image("stopped", n, np.full((200, 200), n, np.uint16)) for n in range(6)]
    paths = write(tmp_path / "sent", images)

    with node(tmp_path / "data", VIGIL_LANDING=landing) as (_, port):
        assert send(paths, port) == [0x0000] * 6

    kept = sorted(data_set_of(content) for content in spooled(tmp_path / "data").values())
    assert kept == sorted(data_set_of(path.read_bytes()) for path in paths)


@pytest.mark.parametrize("landing", LANDINGS)
def test_what_was_answered_with_success_survives_kill_9_of_everything(tmp_path: Path, landing: str) -> None:
    images = [mr_image("killed", n, np.full((200, 200), n, np.uint16)) for n in range(40)]
    paths = write(tmp_path / "sent", images)
    of_path = {path: image for path in paths for image in images if path.stem == image.SOPInstanceUID[-12:]}
    data = tmp_path / "data"

    confirmed = []
    with node(data, VIGIL_LANDING=landing) as (process, port):
        (master,) = children(process.pid)
        family = [process.pid, master, *children(master)]
        for receipt in send_files(
            paths, host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL"
        ):
            if receipt.is_stored:
                confirmed.append(receipt.path)
            if len(confirmed) == 15:
                for pid in family:
                    with suppress(ProcessLookupError):  # one that saw its parent go has gone by itself
                        os.kill(pid, signal.SIGKILL)
    assert 15 <= len(confirmed) < 40

    spool = Spool(data / "spool", load_or_make_secret(data / "site.key"), free_mark_bytes=1)
    Keeper(spool, Segments(data / "log", count=1)).recover()
    found = spooled(data)
    for path in confirmed:
        content = found[instance_file_name(of_path[path].SOPInstanceUID)]
        assert data_set_of(content) == data_set_of(path.read_bytes())


def test_a_dead_acceptor_is_replaced_and_the_port_never_closes(tmp_path: Path) -> None:
    with node(tmp_path / "data") as (process, port):
        (master,) = children(process.pid)
        before = set(children(master))
        assert len(before) == 2

        os.kill(min(before), signal.SIGKILL)

        verify(Line(host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL"))
        wait_until(lambda: len(set(children(master)) - {min(before)}) == 2)
        for _ in range(4):
            verify(Line(host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL"))


def test_a_limit_holds_for_all_acceptors_together(tmp_path: Path) -> None:
    peer = "{name: mr, aet: SCANNER, host: 127.0.0.1, roles: [sender], max_associations: 3}"
    (tmp_path / "peers.yaml").write_text(f"peers:\n  - {peer}\n")
    with (
        node(tmp_path / "data", VIGIL_PEERS=str(tmp_path / "peers.yaml")) as (_, port),
        ExitStack() as stack,
    ):
        line = Line(host="127.0.0.1", port=port, calling_aet="SCANNER", called_aet="VIGIL")
        contexts = {(str(Verification), str(ImplicitVRLittleEndian))}
        for _ in range(3):
            stack.enter_context(Caller.call(line, contexts))
        for _ in range(6):
            with pytest.raises(DestinationBusyError, match="limit"):
                Caller.call(line, contexts)


def test_no_process_is_left_when_the_first_is_killed(tmp_path: Path) -> None:
    with node(tmp_path / "data") as (process, port):
        (master,) = children(process.pid)
        family = [master, *children(master)]
        process.kill()
        process.wait()

        wait_until(lambda: not any(Path(f"/proc/{pid}/task").exists() for pid in family))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_port_in_use_is_told_with_the_remedy() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(PortInUseError, match="VIGIL_PORT"):
        listen("127.0.0.1", taken.getsockname()[1])

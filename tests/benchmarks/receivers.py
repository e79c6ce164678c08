"""The receivers that `tests.benchmarks.ingest` compares, each started afresh with an empty store."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.errors import DeliveryError
from dicom_node.line import Line
from dicom_node.scu import verify

ROOT = Path(__file__).resolve().parents[2]
AET = "BENCHSCP"
TICKS = os.sysconf("SC_CLK_TCK")
ORTHANC = {
    "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [], "Name": "bench",
    "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "DicomAet": AET,
}  # fmt: skip


@dataclass
class Running:
    """One receiver at work."""

    process: subprocess.Popen[bytes]
    port: int
    work: Path
    peak_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def cpu_s(self) -> float:
        """CPU seconds of the whole process tree."""
        return cpu_s(self.process.pid)

    def watch_memory(self) -> None:
        """Keep the peak of the tree's memory: proportional shares, for forks share most of theirs."""
        while not self._stop.wait(0.1):
            total = 0
            for pid in family(self.process.pid):
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            self.peak_mb = max(self.peak_mb, total / 1024)

    def kill(self) -> None:
        """Kill -9 of every process at once."""
        for pid in family(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Let it end in order."""
        self._stop.set()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, its children, and those of them that have ended."""
    ticks = 0
    for one in family(pid):
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def family(pid: int) -> list[int]:
    """Process ids of a process and all below it."""
    found, look_at = [], [pid]
    while look_at:
        found.append(look_at.pop())
        with suppress(OSError):
            listed = Path(f"/proc/{found[-1]}/task/{found[-1]}/children").read_text()
            look_at += map(int, listed.split())
    return found


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, place: Path | None = None, *, traced: Path | None = None) -> Iterator[Running]:
    """Start a receiver by name, wait until it answers, stop it and forget its store.

    Parameters
    ----------
    name : str
        ``orthanc``, ``dcmtk``, ``vigil``, ``vigil-files`` or ``vigil-stock``.
    place : Path, optional
        Where its store lies.
    traced : Path, optional
        File for strace's lines about syncs.
    """
    with tempfile.TemporaryDirectory(dir=place, prefix="bench-ingest-") as folder:
        work, port = Path(folder), free_port()
        command, variables = _command(name, work, port)
        if traced is not None:
            calls = "trace=fsync,fdatasync,sync_file_range,pwrite64,openat"
            # The tracer stands aside (-D), so signals go to the receiver itself.
            command = ["strace", "-D", "-f", "-qq", "-e", calls, "-o", str(traced), *command]
        with (work / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1", **variables}
            )
        receiver = Running(process, port, work)
        try:
            _wait_until_alive(receiver)
            threading.Thread(target=receiver.watch_memory, daemon=True).start()
            yield receiver
        finally:
            receiver.stop()


def _command(name: str, work: Path, port: int) -> tuple[list[str], dict[str, str]]:
    store = work / "store"
    if name == "orthanc":
        settings = {
            **ORTHANC, "DicomPort": port, "HttpPort": free_port(),
            "StorageDirectory": str(store), "IndexDirectory": str(store),
        }  # fmt: skip
        (work / "orthanc.json").write_text(json.dumps(settings))
        return ["/usr/sbin/Orthanc", str(work / "orthanc.json")], {}
    if name == "dcmtk":
        store.mkdir()
        return ["storescp", "+B", "-aet", AET, "-od", str(store), "-uf", str(port)], {}
    kind = name.partition("-")[2]
    variables = {
        "VIGIL_FREE_MARK_MB": "16",
        "VIGIL_LANDING": "files" if kind == "files" else "log",
        "VIGIL_RECEIVER": "stock" if kind == "stock" else "fast",
    }
    node = ["node", "--standalone", "--port", str(port), "--aet", AET, "--data", str(store)]
    return [sys.executable, "-m", "service.cli", *node], variables


def _wait_until_alive(receiver: Running) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            verify(Line(host="127.0.0.1", port=receiver.port, calling_aet="BENCHSCU", called_aet=AET))
        except DeliveryError:
            if receiver.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((receiver.work / "log").read_text(errors="replace")[-800:]) from None
            time.sleep(0.2)
        else:
            return

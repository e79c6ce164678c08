"""Peers nobody here wrote, started for a test: Orthanc as the PACS, dcmtk as scanner and judge."""

import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TOOLS = ("Orthanc", "storescu", "echoscu", "dciodvfy", "dsrdump")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None and not Path(f"/usr/sbin/{tool}").exists()]
READY_TIMEOUT_S = 60.0
PORTS = range(15_000, 32_000)  # below those of /proc/sys/net/ipv4/ip_local_port_range
given: set[int] = set()
# Debian's package orthanc-dicomweb puts it into the first; the variable names another.
PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", os.environ.get("VIGIL_TEST_ORTHANC_PLUGINS", ""))
DICOMWEB = [
    path
    for folder in PLUGIN_FOLDERS
    if folder
    for path in sorted(Path(folder).glob("libOrthancDicomWeb.so*"))
][:1]


def free_port() -> int:
    """Return a port that is free now, and that the system gives to nobody who asks for any port.

    Until it is used, tests beside this one and what they start ask for hundreds.
    """
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in given:
                given.add(port)
                return port


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc, by its REST interface."""

    dicom_port: int
    http_port: int

    def get(self, path: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.http_port}{path}", timeout=30)
        answer.raise_for_status()
        return answer.json()

    def file(self, instance: str) -> bytes:
        answer = httpx.get(f"http://127.0.0.1:{self.http_port}/instances/{instance}/file", timeout=30)
        answer.raise_for_status()
        return answer.content

    def knows(self, *, aet: str, port: int) -> str:
        """Tell it of a node of this machine; return the address of what it does with it."""
        base = f"http://127.0.0.1:{self.http_port}/modalities/peer"
        httpx.put(base, json={"AET": aet, "Host": "127.0.0.1", "Port": port}, timeout=30).raise_for_status()
        return base

    def delete(self, instance: str) -> None:
        httpx.delete(f"http://127.0.0.1:{self.http_port}/instances/{instance}", timeout=30).raise_for_status()

    def forward(self, instances: list[str], *, aet: str, port: int) -> None:
        """Send instances to another node, as an archive does that routes what it gets."""
        base = self.knows(aet=aet, port=port)
        httpx.post(f"{base}/store", json=instances, timeout=120).raise_for_status()

    def instances(self) -> list[str]:
        found: list[str] = self.get("/instances")
        return found


@contextmanager
def orthanc(folder: Path, *, plugins: Sequence[Path] = (), **settings: Any) -> Iterator[Orthanc]:
    """Orthanc with an empty store that takes every class it knows, on free ports of this machine.

    Parameters
    ----------
    folder : Path
        Is made.
    plugins : sequence of Path
        Shared objects.
    **settings
        Of its configuration file, over those here.
    """
    peer = Orthanc(free_port(), free_port())
    folder.mkdir(parents=True)
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "Name": "end to end",
                "StorageDirectory": str(folder / "store"),
                "IndexDirectory": str(folder / "store"),
                "DicomAet": "ORTHANC",
                "DicomPort": peer.dicom_port,
                "DicomCheckCalledAet": False,
                "HttpPort": peer.http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "Plugins": [str(plugin) for plugin in plugins],
                "UnknownSopClassAccepted": False,
                **settings,
            }
        )
    )
    with serving(peer, folder / "orthanc.json"):
        yield peer


@contextmanager
def serving(peer: Orthanc, configuration: Path) -> Iterator[None]:
    """Orthanc as a configuration file has it, which names the ports of `peer`."""
    executable = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    process = subprocess.Popen(
        [executable, str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(peer)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(peer: Orthanc) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            peer.get("/system")
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("Orthanc did not start")


def storescu(
    paths: Sequence[Path], port: int, *, called: str, calling: str
) -> subprocess.CompletedProcess[str]:
    """Send files with dcmtk, one association."""
    return subprocess.run(
        [
            "storescu", "-v", "-R", "-aec", called, "-aet", calling, "127.0.0.1", str(port),
            *(str(path) for path in paths),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip


def echoscu(port: int, *, called: str, calling: str) -> bool:
    """Whether the node answers C-ECHO to dcmtk."""
    command = ["echoscu", "-to", "10", "-aec", called, "-aet", calling, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


# Lines of dciodvfy that are its own age or our private codes, not a fault of the object (CONFORMANCE.md).
ALLOWED_WARNINGS = (
    "99VIGIL",
    "Standard Extended SOP Class",
    "Attribute is not present in standard DICOM IOD",
)


def dciodvfy_errors(path: Path) -> list[str]:
    """Every line with which dciodvfy calls the object wrong."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=120, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]

"""A whole Vigil on this machine, started as an operator starts it, and what a test asks of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.peers import Orthanc, free_port

SCANNER = "SCANNER1"
QUIET_S = 2
PAGE = 200
TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A running ``vigil up``."""

    data: Path
    port: int
    api_port: int
    process: subprocess.Popen[bytes]

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def worklist(self) -> list[dict[str, Any]]:
        """The whole list, page by page."""
        rows: list[dict[str, Any]] = []
        page: dict[str, str | int] = {"limit": PAGE}
        while True:
            answer = httpx.get(f"{self.page}/api/v1/worklist", params=page, timeout=30)
            answer.raise_for_status()
            body = answer.json()
            rows += body["rows"]
            if body["next"] is None:
                return rows
            page["cursor"] = body["next"]

    def wait_until(self, is_over: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return the list once `is_over` says so; the API may be away in between."""
        deadline = time.monotonic() + TIMEOUT_S
        rows: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            try:
                rows = self.worklist()
            except httpx.HTTPError:
                rows = []
            if rows and is_over(rows):
                return rows
            time.sleep(0.5)
        raise TimeoutError(f"the list never got there: {rows}")

    def wait_until_kept(self) -> None:
        """Return once everything received is a file of the spool; the log keeps it until a burst is over."""
        deadline = time.monotonic() + TIMEOUT_S
        while any(path.name.startswith(("active-", "sealed.")) for path in (self.data / "log").iterdir()):
            assert time.monotonic() < deadline, "the log is never emptied"
            time.sleep(0.2)

    def pid(self, *words: str) -> int:
        """Process id of the role whose command line holds all `words`."""
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                command = (folder / "cmdline").read_bytes().decode().split("\0")
                environment = (folder / "environ").read_bytes().decode().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            is_ours = f"VIGIL_DATA={self.data}" in environment
            if is_ours and all(any(part.endswith(word) for part in command) for word in words):
                return int(folder.name)
        raise LookupError(f"no process with {words}")

    def kill(self, *words: str) -> int:
        """Kill -9 a role; return the process id it had."""
        pid = self.pid(*words)
        os.kill(pid, signal.SIGKILL)
        return pid


def has_ended(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether `count` studies have ended and every result is with its destination."""

    def ended(rows: list[dict[str, Any]]) -> bool:
        return len(rows) >= count and all(
            row["state"] in {"scored", "not_assessable", "failed"}
            and all(
                result["status"] in {"delivered", "stored"} or result["destination"] is None
                for result in row["results"]
            )
            for row in rows
        )

    return ended


@contextmanager
def machine(
    data: Path, archive: Orthanc | None, *, quiet_s: float = QUIET_S, **settings: str
) -> Iterator[Machine]:
    """``vigil up`` on free ports, with `archive` as its only destination."""
    data.mkdir(parents=True, exist_ok=True)
    peers = [f"  - {{name: scanner, aet: {SCANNER}, host: 127.0.0.1, roles: [sender], quiet_s: {quiet_s}}}"]
    if archive is not None:
        at = f"host: 127.0.0.1, port: {archive.dicom_port}"
        peers.append(f"  - {{name: pacs, aet: ORTHANC, {at}, roles: [sender, destination]}}")
    (data / "peers.yaml").write_text("peers:\n" + "\n".join(peers) + "\n")
    port, api_port = free_port(), free_port()
    environment = os.environ | {
        "VIGIL_DATA": str(data),
        "VIGIL_ACCESS": "open",
        "VIGIL_STALLED_S": "6",
        "VIGIL_FREE_MARK_MB": "64",
        "VIGIL_LOG_MB": "64",
        "VIGIL_QUIET_S": str(quiet_s),
        **settings,
    }
    log = (data / "vigil.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "up", "--port", str(port), "--api-port", str(api_port)],
        env=environment,
        stdout=log,
        stderr=log,
    )
    running = Machine(data, port, api_port, process)
    try:
        _wait_for(running)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=120)
        log.close()
        assert code == 0, (data / "vigil.log").read_text()[-4000:]


def _wait_for(running: Machine) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        assert running.process.poll() is None, (running.data / "vigil.log").read_text()[-4000:]
        try:
            if httpx.get(f"{running.page}/readyz", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError("vigil up was not ready in time")

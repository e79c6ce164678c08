"""The published OHIF viewer in front of a DICOMweb service, on one address of this machine.

It is no part of the product. It is fetched by npm, or taken from ``VIGIL_TEST_OHIF`` (the folder ``dist`` of
the package ``@ohif/app``).
"""

import mimetypes
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

PACKAGE = "@ohif/app@3.13.2"
FETCH_TIMEOUT_S = 300
PAGE = Path(__file__).resolve().parents[2] / "docs" / "dicomweb.md"


def configuration() -> str:
    """The viewer's configuration that the documentation tells a site to paste."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("```js\n")
    return rest.partition("```")[0]


def fetch(folder: Path) -> Path | None:
    """Folder of the built viewer; None where it cannot be had."""
    if given := os.environ.get("VIGIL_TEST_OHIF"):
        return Path(given)
    npm = shutil.which("npm")
    if npm is None:
        return None
    command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=folder, timeout=FETCH_TIMEOUT_S)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        return None
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package" / "dist"


@contextmanager
def serve(viewer: Path, archive: str) -> Iterator[str]:
    """Address of the viewer; what it asks of DICOMweb goes on to ``archive``."""
    settings = configuration().encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/dicom-web"):
                self._forward()
            elif path == "/app-config.js":
                self._answer(200, "text/javascript", settings)
            else:
                file = (viewer / path.lstrip("/")).resolve()
                if not (file.is_relative_to(viewer.resolve()) and file.is_file()):
                    file = viewer / "index.html"  # routes of the application
                kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                self._answer(200, kind, file.read_bytes())

        def _forward(self) -> None:
            # The name the browser asked for goes along, so that addresses in answers are of this place.
            asked = {name: self.headers.get(name, "*/*") for name in ("Accept", "Host")}
            answer = httpx.get(f"{archive}{self.path}", headers=asked, timeout=60)
            self._answer(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")  # its workers share memory
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            with suppress(ConnectionError):  # the viewer asks for more than it waits for
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing: requests hold UIDs."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

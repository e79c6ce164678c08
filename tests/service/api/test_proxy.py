"""The site of nginx in the documents, between a browser and a served application."""

import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from service.access import Role
from service.api import create_app
from service.settings import Settings
from service.store import Store, people
from tests.certificates import Certificates, make
from tests.end_to_end.peers import free_port
from tests.seeds import MODEL
from tests.served import served

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "access.md"
PUBLIC = "https://vigil.hospital.example"
HOST = {"Host": "vigil.hospital.example"}

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(NGINX is None or shutil.which("openssl") is None, reason="nginx is not installed"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def token(database_url: str) -> dict[str, str]:
    """Header of somebody who may do what is tried here."""
    store = Store.open(database_url)
    with store.transaction() as session:
        _, secret = people.make_token(session, f"proxy {secrets.token_hex(4)}", Role.OPERATOR, actor="test")
    store.close()
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def port(
    database_url: str, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Port where nginx serves what the page says, in front of an application on loopback."""
    folder = tmp_path_factory.mktemp("nginx")
    settings = Settings(data=folder / "data", address=PUBLIC, accept_stow=True)
    store = Store.open(database_url)
    with served(create_app(store=store, settings=settings, model=MODEL)) as behind:
        port = free_port()
        (folder / "nginx.conf").write_text(configuration(folder, port, behind, certificates))
        assert NGINX is not None
        proxy = subprocess.Popen(
            [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
        )
        try:
            listens(port)
            yield port
        finally:
            proxy.terminate()
            proxy.wait(60)
    store.close()


def configuration(folder: Path, port: int, behind: str, certificates: Certificates) -> str:
    """Whole configuration around the page's site, with the places of this test."""
    (site,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    for said, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/nginx/vigil.pem", str(certificates.node)),
        ("/etc/nginx/vigil.key", str(certificates.key(certificates.node))),
        ("/var/log/nginx/vigil.log", str(folder / "vigil.log")),
        ("http://127.0.0.1:8080", behind),
    ):
        assert said in site
        site = site.replace(said, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    return f"{user}\ndaemon off;\npid {folder / 'pid'};\nevents {{}}\nhttp {{\n{places}\n{site}\n}}\n"


def listens(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nginx does not listen")


@pytest.fixture
def browser(port: int, certificates: Certificates, token: dict[str, str]) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=certificates.authority)
    with httpx.Client(
        base_url=f"https://localhost:{port}", headers=HOST | token, verify=context, timeout=30
    ) as one:
        yield one


def test_pages_are_answered_by_the_public_name_and_stay_with_https(browser: httpx.Client) -> None:
    answer = browser.get("/")

    assert answer.status_code == 200
    assert "strict-transport-security" in answer.headers
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_what_is_for_the_monitor_is_not_forwarded(browser: httpx.Client, path: str) -> None:
    assert (browser.get(path).status_code, browser.get(path).headers["server"][:5]) == (404, "nginx")


def test_a_form_of_the_page_is_our_own(browser: httpx.Client) -> None:
    ours = browser.post("/healthz", headers={"Origin": PUBLIC})
    theirs = browser.post("/healthz", headers={"Origin": "https://evil.example"})

    assert (ours.status_code, theirs.status_code) == (405, 403)


def test_a_notice_comes_at_once(browser: httpx.Client) -> None:
    begun = time.monotonic()
    with browser.stream("GET", "/api/v1/events") as stream:
        first = next(stream.iter_raw())

    assert first
    assert time.monotonic() - begun < 30


def test_instances_are_larger_than_a_form(browser: httpx.Client) -> None:
    """The answer is Vigil's, which finds no DICOM in it. That of nginx would be 413, before it was read."""
    head = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
    body = head + b"\0" * 3 * 1024 * 1024 + b"\r\n--x--\r\n"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}

    answer = browser.post("/dicom-web/studies", content=body, headers=kind)

    assert answer.status_code == 409, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"


def test_a_websocket_of_the_page_is_opened(
    port: int, certificates: Certificates, token: dict[str, str]
) -> None:
    context = ssl.create_default_context(cafile=certificates.authority)
    line = socket.create_connection(("127.0.0.1", port), 30)
    with connect(
        "wss://vigil.hospital.example/dicom-web/subscribers/BOARD",
        sock=line,
        ssl=context,
        server_hostname="localhost",
        origin=Origin(PUBLIC),
        additional_headers=token,
    ) as opened:
        assert opened.ping().wait(60)

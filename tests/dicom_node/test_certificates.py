"""Calls over TLS, and peers that are known by their certificate; both directions against our own receiver."""

import hashlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicom_node.certificates import Followed, context_for, fingerprint_of, serving_context
from dicom_node.errors import DeliveryError, DestinationBusyError, DestinationRefusedError
from dicom_node.line import Line
from dicom_node.peer import Certificate, Peer
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.scu import send_files, verify
from dicom_node.services.dicomweb import WebPeer
from dicom_node.spool import Spool
from tests.certificates import Certificates, both, make, renew
from tests.phantoms import Phantom, write

AET = "VIGIL"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


def fingerprint(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


def with_key(certificate: Path) -> Path:
    file = certificate.with_suffix(".both")
    file.write_bytes(both(certificate))
    return file


def receiver(folder: Path, certificates: Certificates, peers: Peers) -> Receiver:
    spool = Spool(folder / "spool", b"s" * 32, free_mark_bytes=1)
    tls = serving_context(certificates.node, certificates.authority, Certificates.key(certificates.node))
    return Receiver(spool, aet=AET, host="127.0.0.1", port=0, peers=peers, tls=lambda: tls)


@pytest.fixture
def node(tmp_path: Path, certificates: Certificates) -> Iterator[Receiver]:
    with receiver(tmp_path, certificates, Peers()) as running:
        yield running


def line(node: Receiver, certificate: Certificate | None) -> Line:
    return Line(host="127.0.0.1", port=node.port, calling_aet="MR1", called_aet=AET, certificate=certificate)


def shown(certificates: Certificates, sha256: str | None = None) -> Certificate:
    return Certificate(own=with_key(certificates.peer), ca=certificates.authority, sha256=sha256)


def test_files_go_over_tls_and_arrive_whole(
    node: Receiver, certificates: Certificates, tmp_path: Path
) -> None:
    paths = write(tmp_path / "sent", Phantom(shape=(3, 700, 700), bright=(1, 2, 3)).datasets())
    demanded = shown(certificates, fingerprint(certificates.node))

    verify(line(node, demanded))
    receipts = list(
        send_files(
            paths, host="127.0.0.1", port=node.port, calling_aet="MR1", called_aet=AET, certificate=demanded
        )
    )

    assert all(receipt.is_stored for receipt in receipts)
    assert node.counters.snapshot()["stored"] == 3


@pytest.mark.parametrize("call", [verify, "send"])
def test_a_peer_with_another_certificate_than_demanded_is_sent_nothing(
    node: Receiver, certificates: Certificates, tmp_path: Path, call: object
) -> None:
    wrong = shown(certificates, fingerprint(certificates.stranger))
    if call == "send":
        (path, *_) = write(tmp_path / "sent", Phantom().datasets())
        (receipt,) = send_files(
            [path], host="127.0.0.1", port=node.port, calling_aet="MR1", called_aet=AET, certificate=wrong
        )
        error: DeliveryError | None = receipt.error
    else:
        with pytest.raises(DeliveryError) as caught:
            verify(line(node, wrong))
        error = caught.value

    assert isinstance(error, DestinationRefusedError)
    assert "another certificate" in str(error)
    assert "stored" not in node.counters.snapshot()


def test_a_plain_call_to_tls_and_missing_files_are_tried_again(
    node: Receiver, certificates: Certificates, tmp_path: Path
) -> None:
    missing = Certificate(own=tmp_path / "none.pem", ca=certificates.authority)

    for certificate in (None, missing):
        with pytest.raises(DestinationBusyError):
            verify(line(node, certificate))


def test_a_sender_is_known_by_its_certificate(tmp_path: Path, certificates: Certificates) -> None:
    def sender(sha256: str) -> Peers:
        return Peers(
            (
                Peer.model_validate(
                    {"name": "mr", "aet": "MR1", "host": "127.0.0.1", "roles": ["sender"]}
                    | {"certificate": {"sha256": sha256}}
                ),
            )
        )

    with receiver(tmp_path / "right", certificates, sender(fingerprint(certificates.peer))) as node:
        verify(line(node, shown(certificates)))
    with receiver(tmp_path / "wrong", certificates, sender(fingerprint(certificates.node))) as node:
        with pytest.raises(DestinationBusyError, match="rejected"):
            verify(line(node, shown(certificates)))
        assert node.counters.snapshot()["association_rejected"] == 1


def test_a_peer_that_must_show_a_certificate_is_not_taken_without_tls() -> None:
    peer = Peer.model_validate(
        {
            "name": "mr",
            "aet": "MR1",
            "host": "127.0.0.1",
            "roles": ["sender"],
            "certificate": {"sha256": "ab" * 32},
        }
    )

    assert not Peers((peer,)).accepts("MR1", "127.0.0.1")
    assert Peers((peer,)).accepts("MR1", "127.0.0.1", "ab" * 32)


def test_a_peer_that_must_show_a_certificate_is_never_called_in_plain(tmp_path: Path) -> None:
    """Its profile names a fingerprint, and nothing of ours to call with: not even a result is sent."""
    (path, *_) = write(tmp_path / "sent", Phantom().datasets())
    spool = Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=1)
    demanded = Certificate(sha256="ab" * 32)
    with Receiver(spool, aet=AET, host="127.0.0.1", port=0, peers=Peers()) as plain:
        (receipt,) = send_files(
            [path], host="127.0.0.1", port=plain.port, calling_aet="MR1", called_aet=AET, certificate=demanded
        )
        with pytest.raises(DestinationRefusedError):
            verify(line(plain, demanded))

    assert isinstance(receipt.error, DestinationRefusedError)
    assert plain.counters.snapshot() == {}


class Web(ThreadingHTTPServer):
    """DICOMweb over TLS that remembers whether it was asked anything."""

    asked = 0


class WebHandler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def web(certificates: Certificates) -> Iterator[Web]:
    with Web(("127.0.0.1", 0), WebHandler) as running:
        tls = serving_context(certificates.node, certificates.authority, Certificates.key(certificates.node))
        running.socket = tls.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_web_peer_with_another_certificate_is_asked_nothing(web: Web, certificates: Certificates) -> None:
    def peer(sha256: str, scheme: str = "https") -> WebPeer:
        url = f"{scheme}://127.0.0.1:{web.server_address[1]}"
        return WebPeer(url=url, certificate=shown(certificates, sha256))

    peer(fingerprint(certificates.node)).check()
    assert web.asked == 1
    for wrong in (
        peer(fingerprint(certificates.stranger)),
        peer(fingerprint(certificates.node), scheme="http"),
    ):
        with pytest.raises(DestinationRefusedError, match="another certificate"):
            wrong.check()
    assert web.asked == 1


def seen(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> tuple[str | None, str | None]:
    """Fingerprints that the called and the calling side of a connection saw."""
    ends = socket.socketpair()
    found: list[str | None] = []

    def answer() -> None:
        with ours.wrap_socket(ends[0], server_side=True) as called:
            found.append(fingerprint_of(called))
            called.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    with theirs.wrap_socket(ends[1], server_hostname="localhost") as calling:
        shown = fingerprint_of(calling)
        calling.send(b".")
    thread.join()
    return found[0], shown


def test_a_renewed_certificate_is_shown_to_the_next_who_calls_and_is_called(tmp_path: Path) -> None:
    made = make(tmp_path)
    node, peer = (made.node.with_suffix(".both"), made.peer.with_suffix(".both"))
    node.write_bytes(both(made.node))
    peer.write_bytes(both(made.peer))
    followed = Followed(lambda: serving_context(node, made.authority), node, made.authority)
    profile = Certificate(own=peer, ca=made.authority)
    old = fingerprint(made.node)

    renew(made, made.node)
    node.write_bytes(made.node.read_bytes())  # its key is not written yet
    calling = context_for(profile)
    assert calling is not None
    assert seen(followed(), calling) == (fingerprint(made.peer), old)
    node.write_bytes(both(made.node))
    renew(made, made.peer)
    peer.write_bytes(both(made.peer))
    calling = context_for(profile)
    assert calling is not None

    assert seen(followed(), calling) == (fingerprint(made.peer), fingerprint(made.node))
    assert fingerprint(made.node) != old
    assert followed() is followed()  # read once


def test_an_authority_that_was_taken_out_is_believed_no_more(tmp_path: Path) -> None:
    made = make(tmp_path)
    node, believed = tmp_path / "node.both", tmp_path / "believed.pem"
    node.write_bytes(both(made.node))
    believed.write_bytes(made.authority.read_bytes() + made.stranger.read_bytes())
    followed = Followed(lambda: serving_context(node, believed), node, believed)
    assert len(followed().get_ca_certs()) == 2

    believed.write_bytes(made.stranger.read_bytes())

    assert len(followed().get_ca_certs()) == 1

import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage, Verification

from dicom_node.certificates import calling_context, serving_context
from dicom_node.peers import Peers
from dicom_node.scp import Receiver
from dicom_node.spool import Spool
from dicom_node.tls import MOST_WAITING_OF_ONE
from tests.certificates import Certificates, make
from tests.phantoms import Phantom, write

AET = "VIGIL"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def receiver(tmp_path: Path, certificates: Certificates) -> Iterator[Receiver]:
    spool = Spool(tmp_path / "data" / "spool", b"s" * 32, free_mark_bytes=1)
    tls = serving_context(certificates.node, certificates.authority, Certificates.key(certificates.node))
    with Receiver(spool, aet=AET, host="127.0.0.1", port=0, peers=Peers(), tls=lambda: tls) as running:
        yield running


def context_of(certificates: Certificates, certificate: Path | None = None) -> ssl.SSLContext:
    shown = certificate or certificates.peer
    return calling_context(shown, certificates.authority, Certificates.key(shown))


def echo(receiver: Receiver, context: ssl.SSLContext | None) -> bool:
    """Whether C-ECHO is answered."""
    entity = AE(ae_title="SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 20
    entity.add_requested_context(Verification)
    with suppress(OSError):
        association = entity.associate(
            "127.0.0.1",
            receiver.port,
            ae_title=AET,
            tls_args=None if context is None else (context, "localhost"),
        )
        if association.is_established:
            status = association.send_c_echo()
            association.release()
            return bool(status.get("Status") == 0)
    return False


@contextmanager
def peers_that_stop(receiver: Receiver, first_words: bytes, *, count: int) -> Iterator[None]:
    """Connections that say so much and then nothing, held open."""
    held = []
    try:
        for _ in range(count):
            held.append(socket.create_connection(("127.0.0.1", receiver.port), timeout=30))
            held[-1].sendall(first_words)
        yield
    finally:
        for connection in held:
            connection.close()


def hello(certificates: Certificates) -> bytes:
    """What a good client says first."""
    outgoing = ssl.MemoryBIO()
    client = context_of(certificates).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_peer_with_a_certificate_is_answered(receiver: Receiver, certificates: Certificates) -> None:
    assert echo(receiver, context_of(certificates))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["silent", "half a hello", "a hello alone"])
def test_peers_that_stop_in_the_handshake_keep_nobody_out(
    receiver: Receiver, certificates: Certificates, share: float
) -> None:
    words = hello(certificates)
    with peers_that_stop(receiver, words[: round(share * len(words))], count=MOST_WAITING_OF_ONE // 2):
        begun = time.monotonic()
        assert echo(receiver, context_of(certificates))
        assert time.monotonic() - begun < 30


def test_a_handshake_that_drips_ends_by_the_deadline(receiver: Receiver, certificates: Certificates) -> None:
    """Each byte comes in time, the whole does not."""
    words = hello(certificates)
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        with suppress(OSError):
            for byte in words:
                connection.sendall(bytes([byte]))
                time.sleep(0.2)
                if time.monotonic() - begun > 60:
                    break
        assert time.monotonic() - begun < 30


def test_one_address_holds_so_many_handshakes_and_no_more(
    receiver: Receiver, certificates: Certificates
) -> None:
    before = threading.active_count()
    with peers_that_stop(receiver, b"", count=4 * MOST_WAITING_OF_ONE):
        time.sleep(0.5)
        assert threading.active_count() - before <= MOST_WAITING_OF_ONE
    assert settled(lambda: echo(receiver, context_of(certificates)))
    assert settled(lambda: threading.active_count() <= before + 1)


def settled(condition: object, patience_s: float = 60.0) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


def is_let_in(receiver: Receiver, context: ssl.SSLContext | None) -> bool:
    """Whether the node waits for a request after the handshake; a refused peer is closed."""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
        try:
            if context is None:
                connection.sendall(b"\x01\x00\x00\x00\x00\x44" + bytes(68))
            else:
                connection = context.wrap_socket(connection, server_hostname="localhost")  # noqa: PLW2901
            connection.settimeout(2)
            return bool(connection.recv(1))
        except TimeoutError:
            return True
        except OSError:
            return False
        finally:
            connection.close()


def test_no_certificate_a_strangers_plain_text_and_old_protocols_are_refused(
    receiver: Receiver, certificates: Certificates
) -> None:
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.load_verify_locations(certificates.authority)
    assert not is_let_in(receiver, anonymous)
    assert not is_let_in(receiver, context_of(certificates, certificates.stranger))
    assert not is_let_in(receiver, old_context(certificates))
    assert not is_let_in(receiver, None)
    assert is_let_in(receiver, context_of(certificates))


def old_context(certificates: Certificates) -> ssl.SSLContext:
    """A peer that speaks TLS 1.1 at most."""
    old = context_of(certificates)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    return old


def test_ciphers_have_forward_secrecy_and_authenticated_encryption(certificates: Certificates) -> None:
    context = serving_context(certificates.node, certificates.authority, Certificates.key(certificates.node))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["name"].startswith(("ECDHE-", "DHE-", "TLS_"))


def test_a_file_that_is_no_certificate_is_an_error_of_the_operator(
    tmp_path: Path, certificates: Certificates
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(OSError, match=r"."):
        serving_context(wrong, certificates.authority)


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed")
def test_dcmtk_sends_a_series_over_mutual_tls(
    receiver: Receiver, certificates: Certificates, tmp_path: Path
) -> None:
    paths = write(tmp_path / "study", Phantom().datasets())
    command = [
        "storescu", "+tls", Certificates.key(certificates.peer), certificates.peer,
        "+cf", certificates.authority, "-aec", AET, "127.0.0.1", receiver.port, *paths,
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert receiver.counters.snapshot()["stored"] == len(paths)


def test_large_instances_come_through_whole(
    receiver: Receiver, certificates: Certificates, tmp_path: Path
) -> None:
    """Records of TLS and PDUs end at different places: what is buffered between them must not wait."""
    paths = write(tmp_path / "study", Phantom(shape=(3, 700, 700), bright=(1, 2, 3)).datasets())
    entity = AE(ae_title="SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.add_requested_context(MRImageStorage)
    association = entity.associate(
        "127.0.0.1", receiver.port, ae_title=AET, tls_args=(context_of(certificates), "localhost")
    )
    assert association.is_established
    assert [association.send_c_store(path).Status for path in paths] == [0, 0, 0]
    association.release()

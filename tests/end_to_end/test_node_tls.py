"""TLS of a whole node: acceptors in processes of their own, certificates on both sides, dcmtk as the peer."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node.peers import Peers
from dicom_node.spool import Spool
from dicom_node.tallies import Tallies
from service.errors import SettingsError
from service.reception import reception
from service.settings import Settings
from tests.certificates import Certificates, both, make, renew
from tests.end_to_end.node import AET, running_node
from tests.phantoms import Phantom, write


def starts(settings: Settings, folder: Path) -> None:
    spool = Spool(folder / "spool", b"s" * 32, free_mark_bytes=1)
    with reception(settings, spool, Peers(), Tallies(), on_loss=lambda: None):
        raise AssertionError("it accepts")


def test_a_certificate_without_authorities_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VIGIL_TLS_AUTHORITIES"):
        starts(Settings(tls_certificate=tmp_path / "node.pem"), tmp_path)


def test_authorities_without_a_certificate_are_refused_for_the_node_would_be_plain(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VIGIL_TLS_CERTIFICATE"):
        starts(Settings(tls_authorities=tmp_path / "ca.pem"), tmp_path)


def test_a_certificate_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VIGIL_TLS_CERTIFICATE"):
        starts(Settings(tls_certificate=tmp_path / "a.pem", tls_authorities=tmp_path / "b.pem"), tmp_path)


def shown_by(port: int, certificates: Certificates) -> str:
    """Certificate that OpenSSL's own client is shown."""
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", certificates.authority]
    ours = ["-cert", certificates.peer, "-key", Certificates.key(certificates.peer)]
    done = subprocess.run([*client, *ours], input="", capture_output=True, text=True, check=True, timeout=60)
    (shown,) = re.findall(r"-----BEGIN.*?END CERTIFICATE-----", done.stdout, re.DOTALL)
    return str(shown)


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")
@pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed")
def test_dcmtk_is_served_with_its_certificate_and_refused_without_and_a_renewed_one_is_shown(
    tmp_path: Path,
) -> None:
    certificates = make(tmp_path)
    shown = tmp_path / "both.pem"
    shown.write_bytes(both(certificates.node))
    paths = write(tmp_path / "study", Phantom().datasets())
    settings = {"VIGIL_TLS_CERTIFICATE": shown, "VIGIL_TLS_AUTHORITIES": certificates.authority}
    with running_node(tmp_path / "data", **settings) as node:
        end = ("-aec", AET, "127.0.0.1", str(node.port), *paths)
        ours = (
            "+tls",
            Certificates.key(certificates.peer),
            certificates.peer,
            "+cf",
            certificates.authority,
        )
        answers = [
            subprocess.run(
                [str(part) for part in ("storescu", *how, *end)], capture_output=True, check=False, timeout=60
            ).returncode
            for how in (ours, ())
        ]
        renew(certificates, certificates.node)
        shown.write_bytes(both(certificates.node))
        told = [shown_by(node.port, certificates) for _ in range(6)]  # one acceptor or the other answers

    assert set(told) == {certificates.node.read_text().strip()}
    assert answers[0] == 0
    assert answers[1] != 0
    assert len(list((tmp_path / "data" / "spool").glob("*/*.dcm"))) == len(paths)

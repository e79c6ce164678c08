import shutil
import ssl
from pathlib import Path

import pytest

from dicom_node.peers import Peers
from dicom_node.spool import Spool
from service.errors import SettingsError
from service.settings import Settings, load_settings
from service.wiring import config_digest, open_receiver
from tests.certificates import Certificates, make


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=1)


def test_other_kinds_of_results_are_another_configuration() -> None:
    digests = {config_digest(Settings(results=kinds)) for kinds in ("seg,sc,sr", "sr,sc,seg", "sr,pm")}
    assert len(digests) == 2  # order says nothing


@pytest.mark.parametrize("kinds", ["seg,sc", "heatmap,sr", ""])
def test_kinds_nobody_knows_and_a_missing_report_are_errors_that_name_the_setting(kinds: str) -> None:
    with pytest.raises(SettingsError, match="VIGIL_RESULTS"):
        load_settings(results=kinds)


def test_a_certificate_without_authorities_is_refused(spool: Spool, tmp_path: Path) -> None:
    settings = Settings(tls_certificate=tmp_path / "node.pem")
    with pytest.raises(SettingsError, match="VIGIL_TLS_AUTHORITIES"):
        open_receiver(settings, spool, Peers())


def test_a_certificate_that_cannot_be_read_is_refused(spool: Spool, tmp_path: Path) -> None:
    settings = Settings(tls_certificate=tmp_path / "node.pem", tls_authorities=tmp_path / "authorities.pem")
    with pytest.raises(SettingsError, match="VIGIL_TLS_CERTIFICATE"):
        open_receiver(settings, spool, Peers())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")
def test_a_node_shows_the_certificate_it_was_given(spool: Spool, tmp_path: Path) -> None:
    certificates = make(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.node.read_bytes() + Certificates.key(certificates.node).read_bytes())
    settings = Settings(tls_certificate=both, tls_authorities=certificates.authority, port=0)

    with open_receiver(settings, spool, Peers()) as receiver:
        shown = ssl.get_server_certificate(("127.0.0.1", receiver.port), ca_certs=str(certificates.authority))

    assert ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(certificates.node.read_text())

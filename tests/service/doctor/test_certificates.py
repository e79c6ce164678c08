"""What files hold, and what others show now."""

import shutil
from pathlib import Path

import pytest

from service.doctor import Outcome
from service.doctor.certificates import examine
from service.settings import load_settings
from tests.certificates import Certificates, make
from tests.end_to_end.peers import free_port
from tests.syslog_receiver import receiving

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")

SHOWN, BELIEVED = "audit repository shows", "authorities of the audit repository"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


def outcomes(port: int, authorities: Path) -> dict[str, Outcome]:
    settings = load_settings(audit_syslog=f"127.0.0.1:{port}", audit_syslog_authorities=authorities)
    return {check.about: check.outcome for check in examine(settings, None)}


def test_a_certificate_that_is_shown_and_ends_soon_is_told(certificates: Certificates) -> None:
    with receiving(certificates) as receiver:
        found = outcomes(receiver.port, certificates.authority)

    assert found == {SHOWN: Outcome.WARNING, BELIEVED: Outcome.WARNING}  # both hold for two days


def test_a_certificate_of_a_strange_authority_and_an_old_protocol_fail(certificates: Certificates) -> None:
    with receiving(certificates) as receiver:
        assert outcomes(receiver.port, certificates.stranger)[SHOWN] is Outcome.FAILED
    with receiving(certificates, is_old=True) as receiver:
        assert outcomes(receiver.port, certificates.authority)[SHOWN] is Outcome.FAILED


def test_a_file_that_holds_none_fails_and_who_is_away_is_told_elsewhere(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")

    assert outcomes(free_port(), tmp_path / "empty.pem") == {BELIEVED: Outcome.FAILED}
    assert outcomes(free_port(), certificates.authority) == {BELIEVED: Outcome.WARNING}


def test_a_site_without_tls_is_told_so() -> None:
    (check,) = examine(load_settings(), None)

    assert check.outcome is Outcome.UNUSED

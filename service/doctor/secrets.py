"""Whether every secret is where the settings say, readable by us, and by nobody else."""

import stat
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from dicom_node.channel import FhirChannel, WebhookChannel
from dicom_node.identity import SHORTEST_SECRET
from dicom_node.peers import Peers
from service.doctor.answers import Check, failed, guarded, ok, unused
from service.doctor.disk import is_readable
from service.provider_file import ProviderFile
from service.settings import Settings

CHANGED_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# Where container engines mount secrets, mostly as 0444 of somebody else. Inside nobody but us reads them;
# who may on the host is not seen from here.
MOUNTED = Path("/run/secrets")


def examine(settings: Settings, peers: Peers | None) -> Iterator[Check]:
    """The site secret, then every file of a secret that settings and peers name."""
    yield from guarded("secrets", "site key", lambda: [_site_key(settings.key_path)])
    for whose, path in secret_files(settings, peers):
        yield _file(whose, path)


def secret_files(settings: Settings, peers: Peers | None) -> Iterator[tuple[str, Path]]:
    """Every file of a secret but the site's, with the setting or the peer that names it."""
    for whose, path in (
        ("VIGIL_DATABASE_URL_FILE", settings.database_url_file),
        ("VIGIL_TLS_CERTIFICATE", settings.tls_certificate),
        ("VIGIL_AUDIT_SYSLOG_CERTIFICATE", settings.audit_syslog_certificate),
        ("VIGIL_STORE_ACCESS_KEY_FILE", settings.store_access_key_file),
        ("VIGIL_STORE_SECRET_KEY_FILE", settings.store_secret_key_file),
        ("VIGIL_OIDC", _client_secret(settings)),
    ):
        if path is not None:
            yield whose, path
    if peers is None:
        return
    for peer in peers.all:
        yield from (
            (f"{peer.name} {use}", path)
            for use, path in (
                ("authorization", peer.authorization),
                ("certificate", peer.certificate.own if peer.certificate else None),
            )
            if path is not None
        )
    for channel in peers.channels:
        named: list[tuple[str, Path | None]] = [
            ("certificate", channel.certificate.own if channel.certificate else None)
        ]
        if isinstance(channel, WebhookChannel):
            named += [("secret", path) for path in channel.secrets]
        if isinstance(channel, FhirChannel):
            named += [
                ("authorization", channel.authorization),
                ("client secret", channel.oauth.client_secret if channel.oauth else None),
            ]
        yield from ((f"{channel.name} {use}", path) for use, path in named if path is not None)


def _site_key(path: Path) -> Check:
    if not path.exists():
        return unused("secrets", "site key", "made at the first start")
    found = _file("site key", path)
    if not found.remedy and len(path.read_bytes().strip()) < SHORTEST_SECRET:
        return failed(
            "secrets",
            "site key",
            f"the file holds less than {SHORTEST_SECRET} bytes",
            "Restore it from the backup: study keys depend on it.",
        )
    return found


def _file(whose: str, path: Path) -> Check:
    if not is_readable(path):
        return failed(
            "secrets",
            whose,
            f"{path.name} is not there or cannot be read",
            "Put the file where the setting or the peers file says, readable by the user that runs Vigil.",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if MOUNTED in path.parents and not mode & CHANGED_BY_OTHERS:
        return ok("secrets", whose, "mounted for this container; on the host keep its folder to its owner")
    if mode & (stat.S_IRWXO | CHANGED_BY_OTHERS):
        return failed(
            "secrets",
            whose,
            f"others on this machine may read or change {path.name}",
            f"Run `chmod 0600` on {path.name}, and renew the secret if others may have read it.",
        )
    shared = mode & stat.S_IRGRP
    return ok("secrets", whose, "readable by us and the group" if shared else "readable by us alone")


def _client_secret(settings: Settings) -> Path | None:
    """File of the client secret at the identity provider; what is wrong with that is told elsewhere."""
    if settings.oidc is None:
        return None
    try:
        return ProviderFile.read(settings.oidc, settings.address).client_secret_file
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError):
        return None

"""Certificates for tests, made by OpenSSL: an authority, two it signed, and a stranger."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of one authority and what it signed; keys stand beside certificates as ``.key``."""

    authority: Path
    node: Path
    peer: Path
    stranger: Path  # signed by itself

    @staticmethod
    def key(certificate: Path) -> Path:
        return certificate.with_suffix(".key")


def make(folder: Path) -> Certificates:
    made = Certificates(*(folder / f"{name}.pem" for name in ("authority", "node", "peer", "stranger")))
    for certificate in (made.authority, made.stranger):
        _run(
            "req", "-x509", *_new_key(certificate), "-out", certificate, "-days", "2",
            "-subj", f"/CN={certificate.stem}", "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip
    for certificate in (made.node, made.peer):
        renew(made, certificate)
    return made


def renew(made: Certificates, certificate: Path) -> None:
    """Let the authority sign a new key for a name, in the files of the certificate."""
    request = certificate.with_suffix(".csr")
    _run("req", *_new_key(certificate), "-out", request, "-subj", f"/CN={certificate.stem}")
    names = certificate.with_suffix(".ext")
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _run(
        "x509", "-req", "-in", request, "-CA", made.authority, "-CAkey", made.key(made.authority),
        "-days", "2", "-extfile", names, "-out", certificate,
    )  # fmt: skip


def both(certificate: Path) -> bytes:
    """Certificate and key as one file holds them."""
    return certificate.read_bytes() + Certificates.key(certificate).read_bytes()


def _new_key(certificate: Path) -> tuple[object, ...]:
    return ("-newkey", "rsa:2048", "-nodes", "-keyout", certificate.with_suffix(".key"))


def _run(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)

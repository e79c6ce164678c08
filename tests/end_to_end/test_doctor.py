"""vigil doctor at a site that runs: by its command, as it is and with several things broken at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.catalogue import list_artefacts
from tests.end_to_end.conftest import FullRun
from tests.end_to_end.peers import free_port

pytestmark = [pytest.mark.peers, pytest.mark.slow]


def doctor(run: FullRun, **settings: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "doctor", "--data", str(run.machine.data)],
        env=os.environ | {"VIGIL_FREE_MARK_MB": "64"} | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_site_that_runs_is_well(full_run: FullRun) -> None:
    code, told = doctor(full_run)

    assert code == 0, told
    assert "0 failed" in told.splitlines()[-1]


def test_everything_that_is_broken_is_told_at_once_with_what_mends_it(
    full_run: FullRun, tmp_path: Path
) -> None:
    changed = shutil.copytree(list_artefacts()[0], tmp_path / "model")
    (changed / "model.onnx").write_bytes(b"another network")
    away = f"host: 127.0.0.1, port: {free_port()}"
    (tmp_path / "peers.yaml").write_text(
        f"peers:\n  - {{name: pacs, aet: ORTHANC, {away}, roles: [destination]}}\n"
    )
    key = full_run.machine.data / "site.key"
    key.chmod(0o644)
    try:
        code, told = doctor(full_run, VIGIL_MODEL=str(changed), VIGIL_PEERS=str(tmp_path / "peers.yaml"))
    finally:
        key.chmod(0o600)

    assert code == 1
    failed = [line for line in told.splitlines() if line.startswith("failed")]
    assert [line.split(":")[0].split()[1:] for line in failed] == [["secrets"], ["model"], ["peer"]], told
    for remedy in ("chmod 0600", "vigil models activate", "host and port"):
        assert remedy in told
    assert "ok        queue: workers" in told  # what is well is told as well

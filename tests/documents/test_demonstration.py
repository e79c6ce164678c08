"""`./vigil demo`, whole: what everybody sees first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.pages import ROOT

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_demonstration_ends_as_every_label_of_it_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "demo", "--once", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-4000:]
    assert len(json.loads(done.stdout)["studies"]) == 15
    assert (tmp_path / "vigil-data").stat().st_mode & 0o077 == 0

"""What the doctor cannot look at, it tells: another user's folder, a part that breaks."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import doctor
from service.cli import app
from service.doctor import certificates, database, disk, model, others, secrets, store, trust, work  # noqa: F401 - while we may read them
from service.doctor.answers import Check, Outcome, guarded, ok
from service.settings import load_settings

NOBODY = 65534


@pytest.fixture
def vigils() -> Iterator[Path]:
    """Data folder of the user that runs Vigil, where everybody may see that it is there."""
    folder = Path(tempfile.mkdtemp(prefix="vigil-data-"))
    (folder / "spool").mkdir(mode=0o700)
    for name in ("site.key", "model.json", "peers.yaml", "audit.head"):
        (folder / name).write_text("secret")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def another_user() -> Iterator[None]:
    """We are somebody else: the user that typed the command."""
    if os.geteuid() != 0:
        pytest.skip("becomes another user, which root alone can")
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    yield
    os.setresuid(0, 0, 0)
    os.setresgid(0, 0, 0)
    os.setgroups(groups)


def test_another_user_is_told_to_be_the_one_that_runs_vigil(vigils: Path, another_user: None) -> None:  # noqa: ARG001 - who looks
    checks = [*doctor.examine(load_settings(data=vigils))]

    found = {(check.part, check.about): check for check in checks}
    assert found["disk", "data"].outcome is Outcome.FAILED
    assert "as the user that runs Vigil" in found["disk", "data"].remedy
    assert {"peers", "secrets", "database", "model", "store"} <= {check.part for check in checks}
    for check in checks:
        assert check.outcome is not Outcome.FAILED or check.remedy, check


def broken() -> Iterator[Check]:
    yield ok("part", "first", "well")
    raise LookupError("DOE^JOHN")


def refused() -> Iterator[Check]:
    yield from ()
    raise PermissionError(13, "Permission denied", "/var/lib/vigil/site.key")


@pytest.mark.parametrize(
    ("look", "told", "remedy"),
    [(broken, "LookupError", "report"), (refused, "site.key: Permission denied", "user that runs Vigil")],
)
def test_a_look_that_breaks_is_a_failed_check_that_names_nobody(
    look: Callable[[], Iterator[Check]], told: str, remedy: str
) -> None:
    *_, last = guarded("part", "all", look)

    assert last.outcome is Outcome.FAILED
    assert told in last.told
    assert remedy in last.remedy
    assert "DOE" not in last.told + last.remedy


def test_a_part_that_breaks_does_not_keep_the_others_from_being_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def examine(*_: object) -> Iterator[Check]:
        yield from broken()

    monkeypatch.setattr(secrets, "examine", examine)
    told = CliRunner().invoke(app, ["doctor", "--json", "--data", str(tmp_path)])

    assert told.exit_code == 1
    assert '"part": "secrets"' in told.stdout
    assert '"part": "identity provider"' in told.stdout

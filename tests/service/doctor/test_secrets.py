"""Who may read the files of secrets, on a machine and in a container."""

import shutil
import subprocess
from pathlib import Path

import pytest

from service.doctor import secrets
from service.doctor.answers import Check, Outcome
from service.settings import load_settings

MAKER = Path(__file__).resolve().parents[3] / "deploy" / "compose" / "make-secrets"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the secrets that the compose file's own script makes."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copy(MAKER, folder)
    subprocess.run([folder / "make-secrets"], check=True, timeout=30)
    return folder / "secrets"


def looked(folder: Path) -> dict[str, Check]:
    settings = load_settings(
        data=folder, key_file=folder / "site-key", database_url_file=folder / "database-url"
    )
    return {check.about: check for check in secrets.examine(settings, None)}


def test_secrets_of_a_compose_site_are_well_and_the_host_is_named_as_their_keeper(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "MOUNTED", made)

    found = looked(made)

    assert {check.outcome for check in found.values()} == {Outcome.OK}
    assert all("on the host" in check.told for check in found.values())


def test_the_same_files_elsewhere_are_everybodys(made: Path) -> None:
    assert {check.outcome for check in looked(made).values()} == {Outcome.FAILED}


def test_a_mounted_secret_that_others_may_change_fails(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("site-key", "database-url"):
        Path(shutil.copy(made / name, tmp_path)).chmod(0o666)
    monkeypatch.setattr(secrets, "MOUNTED", tmp_path)

    assert {check.outcome for check in looked(tmp_path).values()} == {Outcome.FAILED}


@pytest.mark.parametrize(("mode", "told"), [(0o600, "by us alone"), (0o640, "by us and the group")])
def test_who_may_read_a_secret_is_told_as_it_is(made: Path, tmp_path: Path, mode: int, told: str) -> None:
    for name in ("site-key", "database-url"):
        Path(shutil.copy(made / name, tmp_path)).chmod(mode)

    assert all(check.told.endswith(told) for check in looked(tmp_path).values())

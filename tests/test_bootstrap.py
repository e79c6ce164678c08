"""`./vigil` on a machine of its own: what it installs for which command."""

import shutil
import subprocess
from pathlib import Path

import pytest

LOOK = "python -m pip --version"  # whether the environment is whole
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script with an environment whose tools only note how they were called."""
    for name in ("vigil", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("python", "vigil"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/calls"\n')
        (tools / name).chmod(0o755)
    return tmp_path


def calls(checkout: Path, *arguments: str) -> list[str]:
    (checkout / "calls").unlink(missing_ok=True)
    subprocess.run([checkout / "vigil", *arguments], check=True, capture_output=True, timeout=180)
    called = (checkout / "calls").read_text().splitlines()
    return [line for line in called if line != LOOK]


@pytest.mark.parametrize(
    ("given", "extras", "started"),
    [
        ("demo", "embedded", "vigil demo"),
        ("models verify", "embedded", "vigil models verify"),
        ("models evaluate --seed 1", "embedded,evaluation", "vigil models evaluate --seed 1"),
        ("models train a1-ae-dense", "embedded,making", "vigil models train a1-ae-dense"),
        ("models export run", "embedded,making", "vigil models export run"),
        ("test --long", "embedded,making,dev", "python -m tests.run --long"),
    ],
)
def test_a_command_installs_what_it_needs_and_no_more(
    checkout: Path, given: str, extras: str, started: str
) -> None:
    install, *others, command = calls(checkout, *given.split())

    assert install.endswith(f"-c {checkout}/constraints.txt -e {checkout}[{extras}]")
    assert command == started
    assert others == (["python -m tests.helm_program"] if given.startswith("test") else [])


def test_a_bucket_brings_what_speaks_to_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_STORE", "s3://bucket/site")

    install, _ = calls(checkout, "up")

    assert install.endswith("[embedded,s3]")


def test_nothing_is_installed_twice_until_a_pin_changes(checkout: Path) -> None:
    calls(checkout, "demo")

    assert calls(checkout, "demo") == ["vigil demo"]

    with (checkout / "constraints.txt").open("a") as stream:
        stream.write("another==1\n")
    assert len(calls(checkout, "demo")) == 2


def test_an_environment_without_pip_is_made_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a first start leaves it that was killed between the interpreter and its packages."""
    broken = checkout / ".venv" / "bin" / "python"
    whole = checkout / "whole"
    shutil.copy(broken, whole)
    broken.write_text("#!/bin/sh\nexit 1\n")
    maker = checkout / "maker"
    maker.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] || {{ echo "maker $*" >>"{checkout}/calls"; cp "{whole}" "{broken}"; }}\n'
    )
    maker.chmod(0o755)
    monkeypatch.setenv("VIGIL_PYTHON", str(maker))

    made, install, command = calls(checkout, "demo")

    assert made == f"maker -m venv --clear {checkout}/.venv"
    assert install.startswith("python -m pip install")
    assert command == "vigil demo"


def test_relative_paths_are_those_of_the_caller(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "vigil").write_text(f'#!/bin/sh\npwd >"{checkout}/where"\n')
    elsewhere = checkout / "elsewhere"
    elsewhere.mkdir()

    subprocess.run([checkout / "vigil", "up"], check=True, capture_output=True, timeout=180, cwd=elsewhere)

    assert (checkout / "where").read_text().strip() == str(elsewhere)

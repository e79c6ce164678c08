"""What the command line says of itself."""

from pathlib import Path

from typer.testing import CliRunner

from service import __version__
from service.cli import app


def test_the_release_can_be_asked_for() -> None:
    told = CliRunner().invoke(app, ["--version"])

    assert (told.exit_code, told.stdout) == (0, f"vigil {__version__}\n")


def test_a_folder_without_files_is_not_sent_in_silence(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["send", "127.0.0.1", "11112", str(tmp_path), "--aec", "VIGIL"])

    assert told.exit_code == 1
    assert "nothing was sent" in told.stderr

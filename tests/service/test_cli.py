"""What the command line says of itself."""

from typer.testing import CliRunner

from service import __version__
from service.cli import app


def test_the_release_can_be_asked_for() -> None:
    told = CliRunner().invoke(app, ["--version"])

    assert (told.exit_code, told.stdout) == (0, f"vigil {__version__}\n")

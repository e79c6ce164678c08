"""What the command line says of itself."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import __version__, cli
from service.cli import app
from service.errors import SettingsError
from service.settings import Settings
from service.store import Store
from tests.service.test_migrations import of_release


def test_the_release_can_be_asked_for() -> None:
    told = CliRunner().invoke(app, ["--version"])

    assert (told.exit_code, told.stdout) == (0, f"vigil {__version__}\n")


def test_a_folder_without_files_is_not_sent_in_silence(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["send", "127.0.0.1", "11112", str(tmp_path), "--aec", "VIGIL"])

    assert told.exit_code == 1
    assert "nothing was sent" in told.stderr


@pytest.mark.postgres
@pytest.mark.parametrize("passwords", ["true", "false"])
def test_no_link_is_printed_that_opens_nothing(
    store: Store,
    tmp_path: Path,
    passwords: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the identity provider alone vouches for people, nobody chooses a password."""
    provider = tmp_path / "oidc.yaml"
    provider.write_text(
        "issuer: https://idp.example.org\nclient_id: vigil\nroles: {radiology: reader}\n"
        f"address: https://vigil.example.org\npasswords: {passwords}\n"
    )
    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    monkeypatch.setenv("VIGIL_OIDC", str(provider))

    cli._welcome_first_person(Settings(data=tmp_path))
    invited = CliRunner().invoke(app, ["people", "invite", "reader", "--data", str(tmp_path)])

    link = "https://vigil.example.org/welcome"
    if passwords == "true":
        assert link in capsys.readouterr().err
        assert link in invited.stdout
    else:
        assert link not in capsys.readouterr().err
        assert isinstance(invited.exception, SettingsError)
        assert "its roles" in str(invited.exception)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "command",
    [("db", "upgrade"), ("db", "downgrade", "9999", "--yes"), ("db", "index"), ("retention", "run")],
)
@pytest.mark.parametrize("release", [None, "9999"])
def test_a_command_closes_the_database_however_it_ends(
    store: Store,
    tmp_path: Path,
    command: tuple[str, ...],
    release: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is left open is found by the garbage collector: a warning at a place that did nothing wrong."""
    opened: list[str] = []
    closed: list[str] = []
    real_open, real_close = Store.open, Store.close

    def count_open(url: str) -> Store:
        opened.append(url)
        return real_open(url)

    def count_close(one: Store) -> None:
        closed.append(one.url)
        real_close(one)

    monkeypatch.setenv("VIGIL_DATABASE_URL", store.url)
    monkeypatch.setattr(Store, "open", count_open)
    monkeypatch.setattr(Store, "close", count_close)
    with nullcontext() if release is None else of_release(store, release, oldest=release):
        CliRunner().invoke(app, [*command, "--data", str(tmp_path)])

    assert opened
    assert closed == opened

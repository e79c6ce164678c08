from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import load_settings


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_PORT", "4242")
    monkeypatch.setenv("VIGIL_AET", "SITE")

    settings = load_settings(port=5555)

    assert (settings.port, settings.aet) == (5555, "SITE")


def test_a_wrong_setting_is_named_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_PORT", "seventy")

    with pytest.raises(SettingsError, match="VIGIL_PORT"):
        load_settings()


def test_a_child_process_sees_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parent = load_settings(data=tmp_path, port=1234, quiet_s=2.5)
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)

    assert load_settings() == parent


def test_the_api_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    assert load_settings().api_host == "127.0.0.1"


def test_the_url_of_the_database_may_stand_in_a_file_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "database.url"
    file.write_text("postgresql://vigil:secret@db.example/vigil\n")

    settings = load_settings(data=tmp_path, database_url_file=file)

    assert settings.site_database_url() == "postgresql://vigil:secret@db.example/vigil"
    assert not settings.has_embedded_database
    assert not any("secret" in value for value in settings.environment().values())
    file.unlink()
    with pytest.raises(SettingsError, match="VIGIL_DATABASE_URL_FILE"):
        settings.site_database_url()
    monkeypatch.setenv("VIGIL_DATABASE_URL", "postgresql://vigil@db.example/vigil")
    with pytest.raises(SettingsError, match="not both"):
        load_settings(database_url_file=file)


@pytest.mark.parametrize("url", ["", "  \n"])
def test_an_empty_url_of_the_database_is_refused_and_no_other_database_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    (tmp_path / "url").write_text(url)
    with pytest.raises(SettingsError, match="VIGIL_DATABASE_URL_FILE: the file is empty"):
        load_settings(database_url_file=tmp_path / "url").site_database_url()
    monkeypatch.setenv("VIGIL_DATABASE_URL", url)
    with pytest.raises(SettingsError, match=r"VIGIL_DATABASE_URL: .*unset it"):
        load_settings()


def test_settings_that_contradict_each_other_are_told_as_one_sentence() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(access="open", api_host="0.0.0.0", port=-1)
    with pytest.raises(SettingsError) as together:
        load_settings(access="open", api_host="0.0.0.0")

    assert str(together.value) == (
        "`open` access needs an API that listens on a loopback address alone. See docs/settings.md."
    )
    assert str(refused.value).startswith("VIGIL_PORT: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audit_syslog", "logs.example:99999"),
        ("audit_syslog", "logs..example:6514"),
        ("store_endpoint", "https://bucket:99999"),
        ("triton", "http://triton:99999"),
        ("traces", "http://[::1/v1/traces"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"VIGIL_{name.upper()}"):
        load_settings(**{name: value})

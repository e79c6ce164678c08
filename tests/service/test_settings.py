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

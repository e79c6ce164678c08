"""How the roles of one machine are started and waited for."""

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import roles
from service.demonstration import run
from service.errors import RoleFailedError, SettingsError
from service.roles import machine_roles, role_command
from service.settings import load_settings
from service.store.embedded import EmbeddedDatabase


def test_a_role_runs_nothing_that_stands_in_the_folder_where_it_is_started(tmp_path: Path) -> None:
    """A file there named as a package of ours would be run as us (CWE-427)."""
    (tmp_path / "structlog.py").write_text("raise SystemExit('the wrong one')")
    root = Path(roles.__file__).parent.parent

    told = subprocess.run(
        role_command("--help"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stderr


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[int]:
    """Port of a server on this machine that gives one answer."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("answering", [200], indirect=True)
def test_the_proxy_of_a_hospital_does_not_stand_between_a_machine_and_itself(
    answering: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(roles, "READY_TIMEOUT_S", 60.0)

    roles._wait_for_api(load_settings(api_port=answering))


@pytest.mark.parametrize("answering", [503], indirect=True)
def test_an_api_that_is_not_ready_is_not_taken_for_one_that_is(
    answering: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "READY_TIMEOUT_S", 0.5)

    with pytest.raises(RoleFailedError, match=str(answering)):
        roles._wait_for_api(load_settings(api_port=answering))


def test_a_data_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    settings = load_settings(data=tmp_path / "file" / "data", port=0, api_port=0)

    with pytest.raises(SettingsError, match=r"VIGIL_DATA.*file/data.*Name a folder"):
        machine_roles(settings, own_logs=False)
    with pytest.raises(SettingsError, match="VIGIL_DATA"):
        EmbeddedDatabase(settings.data).prepare()


def test_the_pacs_of_the_demonstration_leaves_port_for_metrics_and_peers_to_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a node too, and starts first."""
    monkeypatch.setenv("VIGIL_NODE_METRICS_PORT", str(roles.free_port("127.0.0.1")))
    settings = load_settings(data=tmp_path, peers=tmp_path / "peers.yaml", database_url="postgresql://no/one")
    monkeypatch.setattr(run, "machine_roles", lambda *_, **__: [])
    monkeypatch.setattr(run, "_refuse_a_sites_own", lambda _: None)

    (pacs,) = run._roles(settings)

    assert "VIGIL_NODE_METRICS_PORT" in settings.environment()
    assert not {"VIGIL_NODE_METRICS_PORT", "VIGIL_PEERS"} & set(pacs.environment)

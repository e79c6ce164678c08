import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from service.errors import EmbeddedDatabaseError
from service.store import embedded
from service.store.embedded import LONGEST_SOCKET_FOLDER, EmbeddedDatabase

pytestmark = pytest.mark.postgres


@contextmanager
def running(database: EmbeddedDatabase) -> Iterator[subprocess.Popen[bytes]]:
    database.prepare()
    server = subprocess.Popen(database.command(), stderr=subprocess.DEVNULL)
    try:
        database.wait_until_ready()
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


def ask(database: EmbeddedDatabase, query: str) -> object:
    with psycopg.connect(database.url) as connection:
        answer = connection.execute(query).fetchone()  # type: ignore[call-overload]
        return answer[0] if answer else None


def test_it_keeps_what_was_committed_when_it_is_killed(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path / "data")
    with running(database) as server:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        os.kill(server.pid, signal.SIGKILL)
        server.wait()

    with running(database):
        assert ask(database, "SELECT value FROM kept") == 42


def test_it_listens_on_no_network_and_shows_nothing_to_others(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path / "data")
    with running(database):
        assert ask(database, "SHOW listen_addresses") == ""
        for folder in (database.data, database.folder, database.socket_folder):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_folder_above_the_data_is_opened_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with running(EmbeddedDatabase(closed / "data")):
        pass

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert closed.stat().st_uid == os.geteuid()


def test_a_server_left_from_a_killed_run_makes_way(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path / "data")
    database.prepare()
    left = subprocess.Popen(database.command(), stderr=subprocess.DEVNULL)
    database.wait_until_ready()

    with running(database):
        assert left.wait(timeout=30) is not None
        assert ask(database, "SELECT 1") == 1


def test_a_start_that_was_killed_half_way_begins_anew(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path / "data")
    draft = tmp_path / "data" / "postgres.making"
    draft.mkdir(parents=True)
    (draft / "half").write_text("made")

    with running(database):
        assert ask(database, "SELECT 1") == 1


def test_a_long_path_gets_a_short_private_socket_folder(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path / ("deep" * 30))

    assert len(str(database.socket_folder)) <= LONGEST_SOCKET_FOLDER
    assert database.socket_folder == EmbeddedDatabase(database.data).socket_folder
    with running(database):
        assert ask(database, "SELECT 1") == 1
    shutil.rmtree(database.socket_folder)


def test_without_the_wheel_the_message_says_which_setting_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)

    with pytest.raises(EmbeddedDatabaseError, match="VIGIL_DATABASE_URL"):
        EmbeddedDatabase(tmp_path / "data").prepare()

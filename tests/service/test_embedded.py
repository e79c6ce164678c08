import math
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        server.wait(timeout=120)


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


def test_a_start_waits_for_what_a_killed_server_left_behind(tmp_path: Path) -> None:
    """PostgreSQL refuses to start while a process of the one before holds its shared memory."""
    database = EmbeddedDatabase(tmp_path / "data")
    child = left_by_a_killed_server(database)

    going_on = threading.Timer(1.0, os.kill, (child, signal.SIGCONT))
    going_on.start()
    with running(database):
        assert ask(database, "SELECT 1") == 1
    going_on.join()


def test_a_server_that_recovers_is_given_the_time_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up and started anew, it would begin to replay its log from the beginning."""
    database = EmbeddedDatabase(tmp_path / "data")
    connect, ends_at = psycopg.connect, math.inf

    def replay_first(*arguments: Any, **options: Any) -> Any:
        if time.monotonic() < ends_at:
            raise psycopg.OperationalError("the database system is starting up")
        return connect(*arguments, **options)

    with running(database):
        monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.1)
        monkeypatch.setattr(embedded.psycopg, "connect", replay_first)
        ends_at = time.monotonic() + 0.5
        database.wait_until_ready()


def test_a_server_that_is_not_there_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.2)
    database = EmbeddedDatabase(tmp_path / "data")
    database.prepare()

    with pytest.raises(EmbeddedDatabaseError, match="did not start within 0 s"):
        database.wait_until_ready()


def test_a_killed_server_that_does_not_let_go_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LEFT_TIMEOUT_S", 0.2)
    database = EmbeddedDatabase(tmp_path / "data")
    child = left_by_a_killed_server(database)

    try:
        with pytest.raises(EmbeddedDatabaseError, match=f"kill -QUIT {child}"):
            database.prepare()
    finally:
        os.kill(child, signal.SIGCONT)


def left_by_a_killed_server(database: EmbeddedDatabase) -> int:
    """Process that stands still, and holds the shared memory of its killed server."""
    with running(database) as server:
        child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])
        os.kill(child, signal.SIGSTOP)
        server.kill()
        server.wait()
    return child


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
        assert left.wait(timeout=60) is not None
        assert ask(database, "SELECT 1") == 1


def test_a_left_server_that_ends_while_it_is_told_to_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends by itself with its supervisor, and pg_ctl then finds none to stop."""
    database = EmbeddedDatabase(tmp_path / "data")
    database.prepare()
    left = subprocess.Popen(database.command(), stderr=subprocess.DEVNULL)
    database.wait_until_ready()
    tell = subprocess.run

    def tell_too_late(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        left.send_signal(signal.SIGINT)
        left.wait()
        return tell(*arguments, **options)

    monkeypatch.setattr(embedded.subprocess, "run", tell_too_late)
    with running(database):
        assert ask(database, "SELECT 1") == 1


def test_a_shell_in_the_folder_of_the_cluster_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LEFT_TIMEOUT_S", 0.2)
    database = EmbeddedDatabase(tmp_path / "data")
    database.prepare()

    with subprocess.Popen(["sleep", "60"], cwd=database.folder) as visitor:
        database.prepare()
        visitor.kill()


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
